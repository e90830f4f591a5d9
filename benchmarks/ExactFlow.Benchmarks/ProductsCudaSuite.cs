using ExactFlow.Cuda;
using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Randomness;
using ExactFlow.Training.Benchmarks;

namespace ExactFlow.Benchmarks;

/// <summary>
/// Operators on a GPU that multiply matrices, and the embedding, at the shapes of a model of 374M parameters in bfloat16: training with 16,384 tokens beside a large square
/// product, decoding beside a copy. Each is captured as a graph of several repetitions, with weights of its own in each where the cache would hold them.
/// </summary>
public static class ProductsCudaSuite
{
    private const int Repetitions = 10, Tokens = 16_384, Hidden = 1024, Inner = 2816, Vocabulary = 32_000;

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
        var ceilings = CudaCeilings.Measure(device);
        run.Report("ceiling", "copy", ceilings.CopyGigabytesPerSecond, "GB/s");
        run.Report("ceiling", "product", ceilings.MatrixProductTeraflops, "TFLOP/s");
        foreach ((int inputs, int outputs) in ((int, int)[])[(Hidden, Hidden), (Hidden, Inner), (Inner, Hidden), (Hidden, 8)])
        {
            MeasureLinear(run, device, ceilings, inputs, outputs);
        }

        foreach (int rows in (int[])[1, 2, 4, 8, 32, 256])
        {
            foreach ((int inputs, int outputs) in ((int, int)[])[(Hidden, Hidden), (Hidden, Inner), (Inner, Hidden), (Hidden, Vocabulary)])
            {
                MeasureFewRows(run, device, ceilings, rows, inputs, outputs);
            }
        }

        MeasureCrossEntropy(run, device, ceilings);
        MeasureEmbedding(run, device, ceilings);
        device.Pool.Trim();
    }

    private static void MeasureLinear(BenchmarkRun run, CudaDevice device, CudaCeilings ceilings, int inputs, int outputs)
    {
        string name = $"Linear {Tokens} x {inputs} to {outputs}";
        if (!run.Wants(name))
        {
            return;
        }

        using Tensor x = Half(device, [Tokens, inputs], 1).RequireGrad(), gradient = Half(device, [Tokens, outputs], 2);
        using Tensor master = device.Persistent([outputs, inputs]).RequireGrad();
        using Tensor weight = master.WorkingCopy(DType.BFloat16);
        Fill(weight, 3);
        double flops = 2e-12 * Tokens * inputs * outputs;
        Report(run, device, name, ceilings.MatrixProductTeraflops, "TFLOP/s", [("forward", flops, () => Once(false)), ("and backward", 3 * flops, () => Once(true))]);

        void Once(bool withBackward)
        {
            using var step = device.BeginStep(withBackward);
            Tensor y = Linear.Apply(x, weight);
            if (withBackward)
            {
                x.ClearGrad();
                master.ClearGrad();
                y.Backward(gradient);
            }
        }
    }

    private static void MeasureFewRows(BenchmarkRun run, CudaDevice device, CudaCeilings ceilings, int rows, int inputs, int outputs)
    {
        string name = $"decoding {rows} x {inputs} to {outputs}";
        if (!run.Wants(name))
        {
            return;
        }

        // Enough weights that the cache has forgotten each when it comes again.
        int copies = (int)Math.Max(1, (128L << 20) / (2L * inputs * outputs));
        using Tensor x = Half(device, [rows, inputs], 1);
        Tensor[] weights = [.. Enumerable.Range(0, copies).Select(_ => device.Persistent([outputs, inputs], DType.BFloat16))];
        Fill(weights[0], 2);
        Array.ForEach(weights[1..], weight => weight.CopyFrom(weights[0]));
        Report(run, device, name, ceilings.CopyGigabytesPerSecond, "GB/s", [("read the weight", copies * 2e-9 * inputs * outputs, Once)]);
        Array.ForEach(weights, weight => weight.Dispose());

        void Once()
        {
            using var step = device.BeginStep(recordGradients: false);
            foreach (Tensor weight in weights)
            {
                Linear.Apply(x, weight);
            }
        }
    }

    private static void MeasureCrossEntropy(BenchmarkRun run, CudaDevice device, CudaCeilings ceilings)
    {
        string name = $"CrossEntropy {Tokens} x {Hidden} to {Vocabulary}";
        if (!run.Wants(name))
        {
            return;
        }

        using Tensor hidden = Half(device, [Tokens, Hidden], 1), master = device.Persistent([Vocabulary, Hidden]).RequireGrad(), head = master.WorkingCopy(DType.BFloat16), targets = Ids(device);
        using Tensor one = device.Persistent([]);
        one.CopyFrom<float>([1f]);
        Fill(head, 2);
        hidden.RequireGrad();
        double flops = 2e-12 * Tokens * Hidden * Vocabulary;
        Report(run, device, name, ceilings.MatrixProductTeraflops, "TFLOP/s", [("losses", flops, () => Once(false)), ("with gradients", 3 * flops, () => Once(true))]);

        void Once(bool withBackward)
        {
            using var step = device.BeginStep(withBackward);
            Tensor loss = CrossEntropy.Apply(hidden, head, targets);
            if (withBackward)
            {
                hidden.ClearGrad();
                master.ClearGrad();
                loss.Backward(one);
            }
        }
    }

    private static void MeasureEmbedding(BenchmarkRun run, CudaDevice device, CudaCeilings ceilings)
    {
        string name = $"Embedding {Tokens} of {Vocabulary} x {Hidden}";
        if (!run.Wants(name))
        {
            return;
        }

        using Tensor master = device.Persistent([Vocabulary, Hidden]).RequireGrad(), table = master.WorkingCopy(DType.BFloat16), ids = Ids(device), gradient = Half(device, [Tokens, Hidden], 1);
        double forward = 4e-9 * Tokens * Hidden, backward = 1e-9 * Hidden * ((4.0 * Vocabulary) + (2.0 * Tokens));
        Report(run, device, name, ceilings.CopyGigabytesPerSecond, "GB/s", [("forward", forward, () => Once(false)), ("and backward", forward + backward, () => Once(true))]);

        void Once(bool withBackward)
        {
            using var step = device.BeginStep(withBackward);
            Tensor y = Embedding.Apply(ids, table);
            if (withBackward)
            {
                master.ClearGrad();
                y.Backward(gradient);
            }
        }
    }

    /// <summary>Measures ways of doing something and shows each with its share of a ceiling.</summary>
    private static void Report(BenchmarkRun run, CudaDevice device, string name, double ceiling, string unit, ReadOnlySpan<(string Contender, double Work, Action Once)> ways)
    {
        foreach ((string contender, double work, Action once) in ways)
        {
            double rate = work / Seconds(device, once);
            run.Report(name, contender, rate, unit, rate / ceiling);
        }
    }

    /// <summary>Time of one repetition: runs the work twice, so that kernels are compiled and memory is in the pool, and replays a graph of repetitions.</summary>
    private static double Seconds(CudaDevice device, Action once)
    {
        once();
        once();
        using CudaGraph graph = device.Capture(() =>
        {
            for (int i = 0; i < Repetitions; i++)
            {
                once();
            }
        });
        graph.Launch();
        using var timer = new CudaTimer(device);
        var seconds = new double[5];
        for (int i = 0; i < seconds.Length; i++)
        {
            timer.Start();
            graph.Launch();
            timer.Stop();
            seconds[i] = timer.WaitForElapsed().TotalSeconds / Repetitions;
        }

        Array.Sort(seconds);
        return seconds[seconds.Length / 2];
    }

    /// <summary>Token ids as a text has them: few words often, most rarely.</summary>
    private static Tensor Ids(CudaDevice device)
    {
        var random = new Philox(1, 7);
        Tensor ids = device.Persistent([Tokens], DType.Int32);
        ids.CopyFrom<int>([.. Enumerable.Range(0, Tokens).Select(i => (int)(Math.Pow(Vocabulary, random.Uniform((ulong)i)) - 1))]);
        return ids;
    }

    private static Tensor Half(CudaDevice device, Shape shape, ulong stream)
    {
        Tensor tensor = device.Persistent(shape, DType.BFloat16);
        Fill(tensor, stream);
        return tensor;
    }

    /// <summary>A million random numbers, again and again.</summary>
    private static void Fill(Tensor tensor, ulong stream)
    {
        var values = new float[Math.Min(tensor.Count, 1 << 20)];
        new Philox(1, stream).FillNormal(values, 0.1);
        ushort[] pattern = Array.ConvertAll(values, value => (ushort)(BitConverter.SingleToUInt32Bits(value) >> 16));
        var bits = new ushort[tensor.Count];
        for (int start = 0; start < bits.Length; start += pattern.Length)
        {
            pattern.AsSpan(0, Math.Min(pattern.Length, bits.Length - start)).CopyTo(bits.AsSpan(start));
        }

        tensor.CopyFrom<ushort>(bits);
    }
}
