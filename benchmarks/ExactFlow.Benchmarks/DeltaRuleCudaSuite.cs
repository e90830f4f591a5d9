using ExactFlow.Cuda;
using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Randomness;
using ExactFlow.Training.Benchmarks;

namespace ExactFlow.Benchmarks;

/// <summary>The delta rule on a GPU: forward, forward with what the backward needs, and both, each captured as a graph of several repetitions.</summary>
public static class DeltaRuleCudaSuite
{
    /// <summary>Repetitions in a graph, so that neither launches nor the final wait count.</summary>
    private const int Repetitions = 10;
    private const int Dim = 128;

    /// <summary>Runs the suite, or says that there is no GPU.</summary>
    public static void Run(BenchmarkRun run)
    {
        ArgumentNullException.ThrowIfNull(run);
        if (!CudaLibrary.Driver.TryLoad(out string where))
        {
            run.Output.WriteLine($"  No NVIDIA driver library in {where}: nothing to measure.");
            return;
        }

        using var device = (CudaDevice)DeviceFactory.Parse("cuda");
        run.Output.WriteLine($"  {device.ModelName}");
        MeasureCopy(run, device);
        foreach ((int batch, int time, int heads) in ((int, int, int)[])[(8, 2048, 8), (32, 2048, 8), (1, 16384, 8), (1, 131072, 16)])
        {
            foreach (string rule in (string[])["efla", "deltanet", "gated_efla"])
            {
                Measure(run, device, DeltaRuleKind.Parse(rule), batch, time, heads);
            }
        }
    }

    private static void MeasureCopy(BenchmarkRun run, CudaDevice device)
    {
        using Tensor from = device.Persistent([256, 1024, 1024]), to = device.Persistent([256, 1024, 1024]);
        using CudaGraph graph = device.Capture(() =>
        {
            for (int i = 0; i < Repetitions; i++)
            {
                to.CopyFrom(from);
            }
        });
        run.Compare("copy, read plus written", 2e-9 * from.ByteCount * Repetitions, "GB/s", new Contender("copy", () => Replay(device, graph)));
    }

    private static void Measure(BenchmarkRun run, CudaDevice device, DeltaRuleKind rule, int batch, int time, int heads)
    {
        string name = $"{rule} {batch} x {time} x {heads}, {Dim}, bfloat16, times {Repetitions}";
        if (!run.Wants(name))
        {
            return;
        }

        Shape shape = [batch, time, heads, Dim], scalars = [batch, time, heads];
        float root = 1 / MathF.Sqrt(Dim);
        using Tensor q = Half(device, shape, root, 1), k = Half(device, shape, root, 2), v = Half(device, shape, 1, 3), gradient = Half(device, shape, 1, 4);
        using Tensor beta = device.Persistent(scalars), logDecay = device.Persistent(scalars);
        var values = new float[beta.Count];
        new Philox(1, 5).FillUniform(values, 0, 1);
        beta.CopyFrom<float>(values);
        new Philox(1, 6).FillUniform(values, -0.1, 0);
        logDecay.CopyFrom<float>(values);
        double work = Repetitions * 1e-9 * DeltaRuleCost.ForwardFlops(batch, time, heads, Dim, Dim);
        using CudaGraph forward = Capture(withBackward: false), both = Capture(withBackward: true);
        run.Compare(name, work, "GFLOP/s", new Contender("forward", () => Replay(device, forward)), new Contender("with backward", () => Replay(device, both), 4 * work));

        CudaGraph Capture(bool withBackward)
        {
            // Outside first: kernels are compiled, gradients have their memory, and then all that a step needs is in the pool.
            Once(withBackward);
            Once(withBackward);
            return device.Capture(() =>
            {
                for (int i = 0; i < Repetitions; i++)
                {
                    Once(withBackward);
                }
            });
        }

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

    private static void Replay(CudaDevice device, CudaGraph graph)
    {
        graph.Launch();
        device.Synchronize();
    }

    private static Tensor Half(CudaDevice device, Shape shape, float deviation, ulong stream)
    {
        Tensor tensor = device.Persistent(shape, DType.BFloat16);
        var bits = new ushort[tensor.Count];
        var random = new Philox(1, stream);
        Parallel.For(0, bits.Length / 4096, block =>
        {
            for (int i = block * 4096; i < (block + 1) * 4096; i++)
            {
                bits[i] = (ushort)(BitConverter.SingleToUInt32Bits((float)(deviation * random.Normal((ulong)i))) >> 16);
            }
        });
        tensor.CopyFrom<ushort>(bits);
        return tensor;
    }
}
