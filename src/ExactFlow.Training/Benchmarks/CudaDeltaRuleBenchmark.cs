using ExactFlow.Cuda;
using ExactFlow.Operators;
using ExactFlow.Tensors;

namespace ExactFlow.Training.Benchmarks;

/// <summary>The delta rule on a GPU as graphs of repetitions: forward alone, forward with backward, and one token of decoding.</summary>
internal static class CudaDeltaRuleBenchmark
{
    private const int Dim = 128;

    /// <summary>Measures every rule at every shape with K = V = 128 in bfloat16, then EFLA at sizes and in formats that the general kernels do.</summary>
    public static void Run(BenchmarkRun run, CudaDevice device, CudaBenchmarkSizes sizes)
    {
        foreach ((int batch, int time, int heads) in sizes.DeltaRule)
        {
            foreach (string rule in sizes.Rules)
            {
                Measure(run, device, $"{rule} {batch} x {time} x {heads}", DeltaRuleKind.Parse(rule), [batch, time, heads, Dim], DType.BFloat16, sizes.Repetitions);
            }
        }

        foreach ((int batch, int time, int heads, int dim, DType format) in sizes.GeneralDeltaRule)
        {
            Measure(run, device, $"efla {batch} x {time} x {heads}, {dim} in {format}", DeltaRuleKind.Efla, [batch, time, heads, dim], format, sizes.Repetitions);
        }

        foreach (int batch in sizes.Decoding)
        {
            MeasureStep(run, device, batch, sizes.Repetitions);
        }
    }

    private static void Measure(BenchmarkRun run, CudaDevice device, string name, DeltaRuleKind rule, Shape shape, DType format, int repetitions)
    {
        if (!run.Wants(name))
        {
            return;
        }

        (int batch, int time, int heads, int dim) = (shape[0], shape[1], shape[2], shape[3]);
        Shape scalars = [batch, time, heads];

        // Keys of length one on average: where EFLA and DeltaNet differ, and neither explodes.
        float root = 1 / MathF.Sqrt(dim);
        using Tensor q = Normal("q", root), k = Normal("k", root), v = Normal("v", 1), gradient = Normal("gradient", 1);
        using Tensor beta = RandomTensors.Uniform(device, scalars, 0, 1, "beta"), logDecay = RandomTensors.Uniform(device, scalars, -0.1f, 0, "log decay");
        using var forward = new GraphedWork(device, repetitions, () => Once(withBackward: false));
        using var both = new GraphedWork(device, repetitions, () => Once(withBackward: true));

        // Forward: q, k, v and scalars in, o out. Backward: all of these but o and do in, a gradient for each input out.
        double numbers = (double)format.Size() * shape.Count, ofScalars = (rule.Decays ? 8.0 : 4.0) * scalars.Count;
        double forwardBytes = (4 * numbers) + ofScalars, bothBytes = forwardBytes + (7 * numbers) + (2 * ofScalars);
        double flops = DeltaRuleCost.ForwardFlops(batch, time, heads, dim, dim), bothFlops = flops + DeltaRuleCost.BackwardFlops(batch, time, heads, dim, dim);
        run.Compare(
            name, 1e-12 * flops, "TFLOP/s", forward.AsContender("forward", bytes: forwardBytes, flops: flops), both.AsContender("with backward", 1e-12 * bothFlops, bothBytes, bothFlops));

        Tensor Normal(string of, float deviation) => RandomTensors.Normal(device, shape, format, deviation, of);

        Tensor Input(Tensor tensor) => tensor.Slice(0, batch).RequireGrad();

        void Once(bool withBackward)
        {
            // As within a model: inputs that end with the step, whose gradients are handed over and not copied.
            using var step = device.BeginStep(withBackward);
            Tensor output = DeltaRule.Apply(rule, Input(q), Input(k), Input(v), Input(beta), rule.Decays ? Input(logDecay) : null).Output;
            if (withBackward)
            {
                output.Backward(gradient.Slice(0, batch));
            }
        }
    }

    /// <summary>One token of decoding with 8 heads: the state in and out.</summary>
    private static void MeasureStep(BenchmarkRun run, CudaDevice device, int batch, int repetitions)
    {
        const int Heads = 8;
        string name = $"efla, a token of {batch} sequences, {Heads} heads";
        if (!run.Wants(name))
        {
            return;
        }

        Shape shape = [batch, 1, Heads, Dim];
        using Tensor q = RandomTensors.Normal(device, shape, DType.BFloat16, 0.1f, "q"), k = RandomTensors.Normal(device, shape, DType.BFloat16, 0.1f, "k");
        using Tensor v = RandomTensors.Normal(device, shape, DType.BFloat16, 1, "v"), beta = RandomTensors.Uniform(device, [batch, 1, Heads], 0, 1, "beta");
        using Tensor state = RandomTensors.Normal(device, [batch, Heads, Dim, Dim], DType.Float32, 1, "state");
        using var token = new GraphedWork(device, repetitions, () =>
        {
            using var step = device.BeginStep(recordGradients: false);
            DeltaRule.Step(DeltaRuleKind.Efla, q, k, v, beta, null, state);
        });
        double bytes = 2.0 * state.ByteCount;
        run.Compare(name, 1e-9 * bytes, "GB/s", token.AsContender("step", bytes: bytes));
    }
}
