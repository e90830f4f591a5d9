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
                Measure(run, device, DeltaRuleKind.Parse(rule), batch, time, heads, dim: 128, DType.BFloat16);
            }
        }

        // What the general kernels do: float32, and sizes that the tensor cores' have no kernels for.
        foreach ((int batch, int time, int heads, int dim, DType format) in ((int, int, int, int, DType)[])[
            (8, 2048, 8, 128, DType.Float32), (8, 2048, 8, 64, DType.Float32), (1, 16384, 8, 128, DType.Float32), (8, 2048, 8, 96, DType.BFloat16), (8, 2048, 4, 256, DType.BFloat16)])
        {
            Measure(run, device, DeltaRuleKind.Efla, batch, time, heads, dim, format);
        }

        foreach (int batch in (int[])[1, 16, 256])
        {
            MeasureStep(run, device, batch, heads: 8, dim: 128);
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

    private static void Measure(BenchmarkRun run, CudaDevice device, DeltaRuleKind rule, int batch, int time, int heads, int dim, DType format)
    {
        string name = $"{rule} {batch} x {time} x {heads}, {dim}, {(format == DType.BFloat16 ? "bfloat16" : "float32")}, times {Repetitions}";
        if (!run.Wants(name))
        {
            return;
        }

        Shape shape = [batch, time, heads, dim], scalars = [batch, time, heads];
        float root = 1 / MathF.Sqrt(dim);
        using Tensor q = Normal(device, shape, format, root, 1), k = Normal(device, shape, format, root, 2), v = Normal(device, shape, format, 1, 3), gradient = Normal(device, shape, format, 1, 4);
        using Tensor beta = device.Persistent(scalars), logDecay = device.Persistent(scalars);
        var values = new float[beta.Count];
        new Philox(1, 5).FillUniform(values, 0, 1);
        beta.CopyFrom<float>(values);
        new Philox(1, 6).FillUniform(values, -0.1, 0);
        logDecay.CopyFrom<float>(values);
        double work = Repetitions * 1e-9 * DeltaRuleCost.ForwardFlops(batch, time, heads, dim, dim);
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

    /// <summary>One token of decoding: the state in and out, against the copy's rate.</summary>
    private static void MeasureStep(BenchmarkRun run, CudaDevice device, int batch, int heads, int dim)
    {
        string name = $"step, {batch} sequences, {heads} heads of {dim}, bfloat16, times {Repetitions}";
        if (!run.Wants(name))
        {
            return;
        }

        Shape shape = [batch, 1, heads, dim];
        using Tensor q = Normal(device, shape, DType.BFloat16, 0.1f, 1), k = Normal(device, shape, DType.BFloat16, 0.1f, 2), v = Normal(device, shape, DType.BFloat16, 1, 3);
        using Tensor beta = Normal(device, [batch, 1, heads], DType.Float32, 0, 4), state = Normal(device, [batch, heads, dim, dim], DType.Float32, 1, 5);
        Steps();
        using CudaGraph graph = device.Capture(Steps);
        run.Compare(name, 2e-9 * state.ByteCount * Repetitions, "GB/s", new Contender("step", () => Replay(device, graph)));

        void Steps()
        {
            using var step = device.BeginStep(recordGradients: false);
            for (int i = 0; i < Repetitions; i++)
            {
                DeltaRule.Step(DeltaRuleKind.Efla, q, k, v, beta, null, state);
            }
        }
    }

    private static Tensor Normal(CudaDevice device, Shape shape, DType format, float deviation, ulong stream)
    {
        Tensor tensor = device.Persistent(shape, format);
        var values = new float[tensor.Count];
        var random = new Philox(1, stream);
        Parallel.For(0, (values.Length + 4095) / 4096, block =>
        {
            for (int i = block * 4096; i < Math.Min(values.Length, (block + 1) * 4096); i++)
            {
                values[i] = (float)(deviation * random.Normal((ulong)i));
            }
        });
        if (format == DType.BFloat16)
        {
            tensor.CopyFrom<ushort>(Array.ConvertAll(values, value => (ushort)(BitConverter.SingleToUInt32Bits(value) >> 16)));
        }
        else
        {
            tensor.CopyFrom<float>(values);
        }

        return tensor;
    }
}
