using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Randomness;

namespace ExactFlow.Training.Benchmarks;

/// <summary>The chunkwise operator, forward alone and forward with backward (three times the forward's operations), for three rules.</summary>
public static class DeltaRuleBenchmark
{
    /// <summary>Runs the suite.</summary>
    public static void Run(BenchmarkRun run)
    {
        ArgumentNullException.ThrowIfNull(run);
        foreach (int threads in run.ThreadCounts)
        {
            using var device = new CpuDevice(threads);
            foreach ((int batch, int time, int heads, int dim) in ((int, int, int, int)[])[(4, 2048, 8, 64), (1, 2048, 8, 128), (1, 16384, 4, 64)])
            {
                foreach (string rule in (string[])["efla", "deltanet", "gated_efla"])
                {
                    Measure(run, device, DeltaRuleKind.Parse(rule), [batch, time, heads, dim]);
                }
            }
        }
    }

    private static void Measure(BenchmarkRun run, CpuDevice device, DeltaRuleKind rule, Shape shape)
    {
        string name = $"{device.Workers.WorkerCount}t {rule} {shape}";
        if (!run.Wants(name))
        {
            return;
        }

        using Tensor q = MatrixProductBenchmark.Random(device, shape, 1);
        using Tensor k = MatrixProductBenchmark.Random(device, shape, 2);
        using Tensor v = MatrixProductBenchmark.Random(device, shape, 3);
        using Tensor gradient = MatrixProductBenchmark.Random(device, shape, 4);
        using Tensor beta = device.Persistent([shape[0], shape[1], shape[2]]);
        using Tensor logDecay = device.Persistent([shape[0], shape[1], shape[2]]);
        using Tensor square = MatrixProductBenchmark.Random(device, [3, 1024, 1024], 5);
        new Philox(1, 6).FillUniform(beta.Span<float>(), 0, 1);
        new Philox(1, 7).FillUniform(logDecay.Span<float>(), -0.1, 0);
        double work = 1e-9 * DeltaRuleCost.ForwardFlops(shape[0], shape[1], shape[2], shape[3], shape[3]);

        void Forward(bool withBackward)
        {
            using var step = device.BeginStep(withBackward);
            Tensor output = DeltaRule.Apply(rule, q, k, v, beta, rule.Decays ? logDecay : null).Output;
            if (withBackward)
            {
                output.Backward(gradient);
            }
        }

        var forward = new Contender("forward", () => Forward(withBackward: false));
        var both = new Contender("with backward", () => Forward(withBackward: true), work + (1e-9 * DeltaRuleCost.BackwardFlops(shape[0], shape[1], shape[2], shape[3], shape[3])));
        Contender ceiling = MatrixProductBenchmark.Ceiling(device, square);
        foreach (Tensor input in (Tensor[])[q, k, v, beta, logDecay])
        {
            input.RequireGrad();
        }

        run.Compare(name, work, "GFLOP/s", ceiling, forward, both);
    }
}
