using ExactFlow.Tensors;
using ExactFlow.Tensors.MatrixProduct;
using ExactFlow.Tensors.Randomness;

namespace ExactFlow.Training.Benchmarks;

/// <summary>The three products of a linear layer (output, input gradient, weight gradient) in language models, against a large square.</summary>
public static unsafe class MatrixProductBenchmark
{
    private const int Square = 1024;

    /// <summary>Runs the suite.</summary>
    public static void Run(BenchmarkRun run)
    {
        ArgumentNullException.ThrowIfNull(run);
        foreach (int threads in run.ThreadCounts)
        {
            using var device = new CpuDevice(threads);
            foreach ((int tokens, int inputs, int outputs) in ((int, int, int)[])[(2048, 256, 256), (2048, 256, 768), (2048, 768, 256), (2048, 1024, 2816), (2048, 256, 4096)])
            {
                using Tensor x = Random(device, [tokens, inputs], 1);
                using Tensor weight = Random(device, [outputs, inputs], 2);
                using Tensor y = Random(device, [tokens, outputs], 3);
                using Tensor square = Random(device, [3, Square, Square], 4);
                double work = 2e-9 * tokens * inputs * outputs;
                run.Compare(
                    $"{threads}t {tokens} x {inputs} to {outputs}",
                    work,
                    "GFLOP/s",
                    Ceiling(device, square),
                    new Contender("output", () => MatrixMultiply.Run(device.Workers, tokens, outputs, inputs, x.Floats, inputs, false, weight.Floats, inputs, true, y.Floats, outputs, false)),
                    new Contender("input grad", () => MatrixMultiply.Run(device.Workers, tokens, inputs, outputs, y.Floats, outputs, false, weight.Floats, inputs, false, x.Floats, inputs, false)),
                    new Contender("weight grad", () => MatrixMultiply.Run(device.Workers, outputs, inputs, tokens, y.Floats, outputs, true, x.Floats, inputs, false, weight.Floats, inputs, false)));
            }
        }
    }

    /// <summary>The matrix product that shares are shares of: 1024 x 1024 x 1024, on the device's threads.</summary>
    /// <param name="device">The device.</param>
    /// <param name="matrices">Three matrices, [3, 1024, 1024].</param>
    internal static Contender Ceiling(CpuDevice device, Tensor matrices)
    {
        float* a = matrices.Floats;
        float* b = a + (Square * Square);
        float* c = b + (Square * Square);
        return new Contender(
            "square 1024",
            () => MatrixMultiply.Run(device.Workers, Square, Square, Square, a, Square, false, b, Square, false, c, Square, false),
            2e-9 * Square * Square * Square);
    }

    /// <summary>A tensor that outlives steps, uniform in [-1, 1).</summary>
    internal static Tensor Random(CpuDevice device, Shape shape, ulong stream)
    {
        Tensor tensor = device.Persistent(shape);
        new Philox(1, stream).FillUniform(tensor.Span<float>(), -1, 1);
        return tensor;
    }
}
