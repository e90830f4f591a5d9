using ExactFlow.Cuda;
using ExactFlow.Models;
using ExactFlow.Operators;
using ExactFlow.Tensors;

namespace ExactFlow.Training.Benchmarks;

/// <summary>
/// Operators on a GPU in bfloat16, at the shapes of a model of 374M parameters: the delta rule, those whose cost is the memory they pass over, beside a copy
/// of as many bytes, and those whose cost is arithmetic. Graphs of repetitions; gradients are written over, not added.
/// </summary>
internal static class CudaOperatorBenchmark
{
    /// <summary>Above this many operations per byte an operator is bound by arithmetic.</summary>
    private const double ArithmeticBound = 128;

    /// <summary>Runs the suite on the run's GPU.</summary>
    public static void Run(BenchmarkRun run)
    {
        ArgumentNullException.ThrowIfNull(run);
        Run(run, new CudaBenchmarkSizes());
    }

    /// <summary>Runs the suite at given shapes.</summary>
    internal static void Run(BenchmarkRun run, CudaBenchmarkSizes sizes)
    {
        CudaDevice device = run.Gpu!;
        CudaDeltaRuleBenchmark.Run(run, device, sizes);
        foreach (Line line in Lines(sizes))
        {
            if (run.Wants(line.Name))
            {
                Measure(run, device, line, sizes.Repetitions);
            }
        }

        MeasureAdamW(run, device, sizes.OptimizerMatrices, sizes.Repetitions);
    }

    private static Line[] Lines(CudaBenchmarkSizes sizes)
    {
        var config = ModelPresets.Create(sizes.Model, MixerKind.Parse("efla"), sizes.Vocabulary);
        (int batch, int time) = sizes.Operators;
        int hidden = config.HiddenSize, heads = config.Heads, dim = hidden / heads, inner = config.InnerSize, vocabulary = sizes.Vocabulary;
        double tokens = (double)batch * time, n = tokens * hidden, m = tokens * inner;
        Shape states = [batch, time, hidden], split = [batch, time, heads, dim], wide = [batch, time, inner];
        double attention = (double)batch * heads * time * (time + 1) * 2 * dim, linear = 2 * tokens * hidden * inner, head = 2 * tokens * hidden * vocabulary;
        return
        [
            new("RmsNorm", [InputKind.Activation(states), InputKind.Vector(hidden)], x => [RmsNorm.Apply(x[0], x[1])], 4 * n, 6 * n),
            new("RmsNorm of heads", [InputKind.Activation(split), InputKind.Vector(dim)], x => [RmsNorm.Apply(x[0], x[1])], 4 * n, 6 * n),
            new("RmsNorm after a sum", [InputKind.Activation(states), InputKind.Activation(states), InputKind.Vector(hidden)], x => AfterAdd(x), 8 * n, 8 * n),
            new("GatedRmsNorm of heads", [InputKind.Activation(split), InputKind.Activation(split), InputKind.Vector(dim)], x => [GatedRmsNorm.Apply(x[0], x[1], x[2], GatePlacement.AfterNorm)], 6 * n, 10 * n),
            new("L2Norm of heads", [InputKind.Activation(split)], x => [L2Norm.Apply(x[0])], 4 * n, 6 * n),
            new("LayerNorm", [InputKind.Activation(states), InputKind.Vector(hidden), InputKind.Vector(hidden)], x => [LayerNorm.Apply(x[0], x[1], x[2])], 4 * n, 6 * n),
            new("Silu", [InputKind.Activation(states)], x => [Elementwise.Silu(x[0])], 4 * n, 6 * n),
            new("SwiGlu", [InputKind.Activation(wide), InputKind.Activation(wide)], x => [SwiGlu.Apply(x[0], x[1])], 6 * m, 10 * m),
            new("ShortConvolution", [InputKind.Activation(states), InputKind.Vector(hidden, config.ConvolutionWidth)], x => [ShortConvolution.Apply(x[0], x[1])], 4 * n, 6 * n),
            new("ShortConvolution to unit length", [InputKind.Activation(states), InputKind.Vector(hidden, config.ConvolutionWidth)], x => [ShortConvolution.ApplyNormalized(x[0], x[1], dim)], 4 * n, 6 * n),
            new("HeadSkip", [InputKind.Activation(split), InputKind.Activation(split), InputKind.Vector(heads)], x => [HeadSkip.Apply(x[0], x[1], x[2])], 6 * n, 6 * n),
            new("AddRow", [InputKind.Activation(states), InputKind.Vector(hidden)], x => [Elementwise.AddRow(x[0], x[1])], 4 * n, 2 * n),
            new("RotaryEmbedding", [InputKind.Activation(split)], x => [RotaryEmbedding.Apply(x[0])], 4 * n, 4 * n),
            new("Embedding", [InputKind.Ids([batch, time], vocabulary), InputKind.Matrix(vocabulary, hidden)], x => [Embedding.Apply(x[0], x[1])], 4 * n, (2 * n) + (4.0 * vocabulary * hidden)),
            new($"Linear {hidden} to {inner}", [InputKind.Activation(states), InputKind.Matrix(inner, hidden)], x => [Linear.Apply(x[0], x[1])],
                2 * (n + m + ((double)inner * hidden)), (4 * n) + (2 * m) + (6.0 * inner * hidden)) { ForwardFlops = linear, BackwardFlops = 2 * linear },
            new($"CrossEntropy of {vocabulary}", [InputKind.Activation(states), InputKind.Matrix(vocabulary, hidden), InputKind.Ids([batch, time], vocabulary)], x => [CrossEntropy.Apply(x[0], x[1], x[2])],
                (2 * n) + (2.0 * vocabulary * hidden), (4 * n) + (6.0 * vocabulary * hidden)) { ForwardFlops = head, BackwardFlops = 2 * head },
            new($"SoftmaxAttention {batch} x {time} x {heads}", [InputKind.Activation(split), InputKind.Activation(split), InputKind.Activation(split)], x => [SoftmaxAttention.Apply(x[0], x[1], x[2])],
                8 * n, 16 * n) { ForwardFlops = attention, BackwardFlops = 2.5 * attention },
        ];
    }

    private static Tensor[] AfterAdd(Tensor[] x)
    {
        (Tensor sum, Tensor normalized) = RmsNorm.ApplyAfterAdd(x[0], x[1], x[2]);
        return [sum, normalized];
    }

    private static void Measure(BenchmarkRun run, CudaDevice device, Line line, int repetitions)
    {
        BenchmarkInput[] inputs = [.. line.Inputs.Select((input, i) => new BenchmarkInput(device, input, $"input {i}"))];
        Tensor[] gradients = MakeOutputGradients(device, line, inputs);
        using (var forward = new GraphedWork(device, repetitions, () => Once(withBackward: false)))
        using (var both = new GraphedWork(device, repetitions, () => Once(withBackward: true)))
        {
            double bytes = line.ForwardBytes + line.BackwardBytes, flops = line.ForwardFlops + line.BackwardFlops;
            if (line.ForwardFlops > ArithmeticBound * line.ForwardBytes)
            {
                run.Compare(
                    line.Name, 1e-12 * line.ForwardFlops, "TFLOP/s", forward.AsContender("forward", bytes: line.ForwardBytes, flops: line.ForwardFlops),
                    both.AsContender("with backward", 1e-12 * flops, bytes, flops));
            }
            else
            {
                using Copying copy = new(device, line.ForwardBytes, repetitions);
                run.Compare(
                    line.Name, 1e-9 * line.ForwardBytes, "GB/s", copy.Contender, forward.AsContender("forward", bytes: line.ForwardBytes), both.AsContender("with backward", 1e-9 * bytes, bytes));
            }
        }

        Array.ForEach(inputs, input => input.Dispose());
        Array.ForEach(gradients, gradient => gradient.Dispose());

        void Once(bool withBackward)
        {
            using var step = device.BeginStep(withBackward);
            IReadOnlyList<Tensor> outputs = line.Run([.. inputs.Select(input => input.ForStep())]);
            if (withBackward)
            {
                for (int i = 1; i < outputs.Count; i++)
                {
                    outputs[i].SeedGrad(gradients[i]);
                }

                outputs[0].Backward(gradients[0]);
            }
        }
    }

    private static Tensor[] MakeOutputGradients(CudaDevice device, Line line, BenchmarkInput[] inputs)
    {
        using var step = device.BeginStep(recordGradients: false);
        return [.. line.Run([.. inputs.Select(input => input.ForStep())]).Select(output => RandomTensors.Normal(device, output.Shape, output.DType, 1, "gradient"))];
    }

    /// <summary>Gradient norm, clipping and update of many parameters with working copies: 34 bytes each.</summary>
    private static void MeasureAdamW(BenchmarkRun run, CudaDevice device, (int Count, int Rows, int Columns) matrices, int repetitions)
    {
        string name = $"AdamW of {matrices.Count} x {matrices.Rows} x {matrices.Columns}";
        if (!run.Wants(name))
        {
            return;
        }

        Parameter[] parameters =
        [
            .. Enumerable.Range(0, 2 * matrices.Count).Select(i => new Parameter($"p{i}", device.Persistent(i % 2 == 0 ? [matrices.Rows, matrices.Columns] : [matrices.Columns]), weightDecay: i % 2 == 0)),
        ];
        foreach (Parameter parameter in parameters)
        {
            parameter.AddWorkingCopy();
            parameter.Value.Zero();
            parameter.Value.GradForWrite(out _).Zero();
        }

        using (var optimizer = new AdamW(parameters))
        {
            optimizer.BeginStep(1e-3f);
            double bytes = 34 * parameters.Sum(parameter => (double)parameter.Value.Count);
            using var step = new GraphedWork(device, repetitions, () => optimizer.QueueClipAndStep(1));
            using Copying copy = new(device, bytes, repetitions);
            run.Compare(name, 1e-9 * bytes, "GB/s", copy.Contender, step.AsContender("step", bytes: bytes));
        }

        Array.ForEach(parameters, parameter => parameter.Dispose());
    }

    /// <summary>An operator with its inputs.</summary>
    /// <param name="Name">Shown in the table.</param>
    /// <param name="Inputs">What it takes.</param>
    /// <param name="Run">Inputs to outputs.</param>
    /// <param name="ForwardBytes">Bytes that the forward pass must move.</param>
    /// <param name="BackwardBytes">Bytes that the backward pass must move.</param>
    private sealed record Line(string Name, InputKind[] Inputs, Func<Tensor[], IReadOnlyList<Tensor>> Run, double ForwardBytes, double BackwardBytes)
    {
        public double ForwardFlops { get; init; }

        public double BackwardFlops { get; init; }
    }

    /// <summary>A copy that moves as many bytes, read and written together, under the same circumstances.</summary>
    private sealed class Copying : IDisposable
    {
        private readonly Tensor from;
        private readonly Tensor to;
        private readonly GraphedWork work;

        public Copying(CudaDevice device, double bytes, int repetitions)
        {
            from = device.Persistent([checked((int)(bytes / 2 / sizeof(float)))]);
            to = device.Persistent(from.Shape);
            work = new GraphedWork(device, repetitions, () => to.CopyFrom(from));
            Contender = work.AsContender("copy", bytes: bytes);
        }

        public Contender Contender { get; }

        public void Dispose()
        {
            work.Dispose();
            from.Dispose();
            to.Dispose();
        }
    }
}
