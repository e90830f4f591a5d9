using ExactFlow.Cuda;
using ExactFlow.Models;
using ExactFlow.Operators;
using ExactFlow.Tensors;

namespace ExactFlow.Training.Benchmarks;

/// <summary>
/// The three products of a linear layer (output, input gradient, weight gradient) in bfloat16 at the shapes of a model of 374M parameters, and the products of
/// decoding, whose few rows are bound by reading the weight.
/// </summary>
internal static class CudaMatrixProductBenchmark
{
    /// <summary>Runs the suite on the run's GPU.</summary>
    public static void Run(BenchmarkRun run)
    {
        ArgumentNullException.ThrowIfNull(run);
        Run(run, new CudaBenchmarkSizes());
    }

    /// <summary>Runs the suite at given shapes.</summary>
    internal static void Run(BenchmarkRun run, CudaBenchmarkSizes sizes)
    {
        var config = ModelPresets.Create(sizes.Model, MixerKind.Parse("efla"), sizes.Vocabulary);
        int tokens = sizes.Operators.Batch * sizes.Operators.Time, hidden = config.HiddenSize;
        foreach ((int inputs, int outputs) in ((int, int)[])[(hidden, hidden), (hidden, 3 * hidden), (hidden, config.InnerSize), (config.InnerSize, hidden), (hidden, sizes.Vocabulary)])
        {
            foreach (int rows in sizes.Decoding)
            {
                MeasureFewRows(run, run.Gpu!, sizes, rows, inputs, outputs);
            }

            string name = $"{tokens} x {inputs} to {outputs}";
            if (run.Wants(name))
            {
                Measure(run, run.Gpu!, name, tokens, inputs, outputs, sizes.Repetitions);
            }
        }
    }

    private static void Measure(BenchmarkRun run, CudaDevice device, string name, int tokens, int inputs, int outputs, int repetitions)
    {
        using Tensor x = RandomTensors.Normal(device, [tokens, inputs], DType.BFloat16, 1, "x"), y = RandomTensors.Normal(device, [tokens, outputs], DType.BFloat16, 1, "y");
        using Tensor weight = RandomTensors.Normal(device, [outputs, inputs], DType.BFloat16, 1, "weight"), gradient = device.Persistent([outputs, inputs]);
        var output = new MatrixProduct { Rows = tokens, Columns = outputs, Depth = inputs, A = Operand(x), B = Operand(weight, transposed: true), C = Operand(y) };
        var ofInput = new MatrixProduct { Rows = tokens, Columns = inputs, Depth = outputs, A = Operand(y), B = Operand(weight), C = Operand(x) };
        var ofWeight = new MatrixProduct { Rows = outputs, Columns = inputs, Depth = tokens, A = Operand(y, transposed: true), B = Operand(x), C = Operand(gradient) };
        using var first = new GraphedWork(device, repetitions, () => device.Multiply(output));
        using var second = new GraphedWork(device, repetitions, () => device.Multiply(ofInput));
        using var third = new GraphedWork(device, repetitions, () => device.Multiply(ofWeight));
        double flops = 2.0 * tokens * inputs * outputs, numbers = ((double)tokens * (inputs + outputs)) + ((double)inputs * outputs);
        run.Compare(
            name, 1e-12 * flops, "TFLOP/s", first.AsContender("output", null, 2 * numbers, flops), second.AsContender("input grad", null, 2 * numbers, flops),
            third.AsContender("weight grad", null, 2 * (numbers + ((double)inputs * outputs)), flops));
    }

    private static void MeasureFewRows(BenchmarkRun run, CudaDevice device, CudaBenchmarkSizes sizes, int rows, int inputs, int outputs)
    {
        string name = $"decoding {rows} x {inputs} to {outputs}";
        if (!run.Wants(name))
        {
            return;
        }

        // Enough weights that the cache has forgotten each when it comes again.
        long bytes = 2L * inputs * outputs;
        int copies = (int)Math.Clamp(sizes.CacheBytes / bytes, 1, 256);
        using Tensor x = RandomTensors.Normal(device, [rows, inputs], DType.BFloat16, 1, "x");
        Tensor[] weights = [.. Enumerable.Range(0, copies).Select(i => RandomTensors.Normal(device, [outputs, inputs], DType.BFloat16, 0.02f, "weight"))];
        using (var work = new GraphedWork(device, repetitions: 1, ReadAll))
        {
            double all = (double)copies * bytes, flops = 2.0 * rows * inputs * outputs * copies;
            run.Compare(name, 1e-9 * all, "GB/s", work.AsContender($"{copies} weights", bytes: all, flops: flops));
        }

        Array.ForEach(weights, weight => weight.Dispose());

        void ReadAll()
        {
            using var step = device.BeginStep(recordGradients: false);
            Array.ForEach(weights, weight => Linear.Apply(x, weight));
        }
    }

    private static MatrixOperand Operand(Tensor matrix, bool transposed = false) => new(matrix.Address, matrix.DType, matrix.Shape[1], transposed);
}
