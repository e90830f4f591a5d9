using ExactFlow.Cuda;
using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Randomness;
using ExactFlow.Training.Benchmarks;

namespace ExactFlow.Benchmarks;

/// <summary>
/// Operators on a GPU whose cost is the memory they pass over, at the shapes of a model of 374M parameters and batches of 16,384 tokens in bfloat16: GB/s of the
/// bytes that they must move, beside a copy of as many. Each is captured as a graph of several repetitions; gradients are written over, not added.
/// </summary>
public static class OperatorCudaSuite
{
    /// <summary>Repetitions in a graph, so that neither launches nor the final wait count.</summary>
    private const int Repetitions = 10;

    private const int Tokens = 16_384;
    private const int Hidden = 1024;

    private static readonly Shape States = [Tokens, Hidden];
    private static readonly Shape Heads = [Tokens, 8, 128];
    private static readonly Shape Sequences = [8, Tokens / 8, Hidden];
    private static readonly Shape Inner = [Tokens, 2816];

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
        Run(run, device, States, Heads, parameters: 96);
    }

    /// <summary>Runs the suite on a device.</summary>
    /// <param name="run">Where results go.</param>
    /// <param name="device">The GPU.</param>
    /// <param name="states">Shape of the hidden states.</param>
    /// <param name="heads">Shape of the states cut into heads.</param>
    /// <param name="parameters">Matrices that the optimizer updates, each of 4,096 rows.</param>
    private static void Run(BenchmarkRun run, CudaDevice device, Shape states, Shape heads, int parameters)
    {
        run.Output.WriteLine($"  {device.ModelName}");
        Shape features = [states[^1]], perHead = [heads[^1]];
        Line[] lines =
        [
            new("RmsNorm", states, 1, features, 4, 6, (x, w) => [RmsNorm.Apply(x[0], w!)]),
            new("RmsNorm", heads, 1, perHead, 4, 6, (x, w) => [RmsNorm.Apply(x[0], w!)]),
            new("RmsNorm after a sum", states, 2, features, 8, 8, AfterAdd),
            new("GatedRmsNorm", heads, 2, perHead, 6, 10, (x, w) => [GatedRmsNorm.Apply(x[0], x[1], w!, GatePlacement.AfterNorm)]),
            new("L2Norm", heads, 1, null, 4, 6, (x, _) => [L2Norm.Apply(x[0])]),
            new("LayerNorm", states, 1, features, 4, 6, (x, w) => [LayerNorm.Apply(x[0], w!, w!)]),
            new("Silu", states, 1, null, 4, 6, (x, _) => [Elementwise.Silu(x[0])]),
            new("SwiGlu", Inner, 2, null, 6, 10, (x, _) => [SwiGlu.Apply(x[0], x[1])]),
            new("ShortConvolution", Sequences, 1, [Hidden, 4], 4, 6, (x, w) => [ShortConvolution.Apply(x[0], w!)]),
            // Inputs that outlive the step get a copy of a gradient that is only passed on.
            new("HeadSkip", heads, 2, [heads[^2]], 6, 10, (x, w) => [HeadSkip.Apply(x[0], x[1], w!)]),
            new("RotaryEmbedding", [Sequences[0], Sequences[1], heads[^2], heads[^1]], 1, null, 4, 4, (x, _) => [RotaryEmbedding.Apply(x[0])]),
            new("AddRow", states, 1, features, 4, 6, (x, w) => [Elementwise.AddRow(x[0], w!)]),
        ];
        foreach (Line line in lines)
        {
            Measure(run, device, line);
        }

        MeasureAdamW(run, device, parameters);
    }

    private static Tensor[] AfterAdd(Tensor[] x, Tensor? weight)
    {
        (Tensor sum, Tensor normalized) = RmsNorm.ApplyAfterAdd(x[0], x[1], weight!);
        return [sum, normalized];
    }

    private static void Measure(BenchmarkRun run, CudaDevice device, Line line)
    {
        string name = $"{line.Name} {line.Shape}, times {Repetitions}";
        if (!run.Wants(name))
        {
            return;
        }

        Tensor[] inputs = [.. Enumerable.Range(0, line.Inputs).Select(i => Half(device, line.Shape, (ulong)i))];
        using Tensor? weight = line.Weight is { } shape ? device.Persistent(shape) : null;
        using Tensor gradient = Half(device, line.Shape, 9);
        weight?.CopyFrom<float>(Enumerable.Repeat(1f, (int)weight.Count).ToArray());
        Tensor[] all = weight is null ? inputs : [.. inputs, weight];
        Array.ForEach(all, tensor => tensor.RequireGrad());
        using CudaGraph forward = Capture(device, () => Once(withBackward: false));
        using CudaGraph both = Capture(device, () => Once(withBackward: true));
        Compare(run, device, name, line.ForwardBytes * line.Shape.Count, forward, (line.ForwardBytes + line.BackwardBytes) * line.Shape.Count, both);
        Array.ForEach(inputs, tensor => tensor.Dispose());

        void Once(bool withBackward)
        {
            using var step = device.BeginStep(withBackward);
            IReadOnlyList<Tensor> outputs = line.Run(inputs, weight);
            if (withBackward)
            {
                Array.ForEach(all, tensor => tensor.ClearGrad());
                foreach (Tensor output in outputs.Skip(1))
                {
                    output.SeedGrad(gradient);
                }

                outputs[0].Backward(gradient);
            }
        }
    }

    /// <summary>Norm, clipping and update of many parameters with working copies.</summary>
    private static void MeasureAdamW(BenchmarkRun run, CudaDevice device, int matrices)
    {
        string name = $"AdamW, {matrices} x 4M and 1024";
        if (!run.Wants(name))
        {
            return;
        }

        Parameter[] parameters =
        [
            .. Enumerable.Range(0, 2 * matrices).Select(i => new Parameter($"p{i}", device.Persistent(i % 2 == 0 ? [4096, 1024] : [1024]), weightDecay: i % 2 == 0)),
        ];
        foreach (Parameter parameter in parameters)
        {
            parameter.AddWorkingCopy();
            parameter.Value.GradForWrite(out _).Zero();
        }

        using var optimizer = new AdamW(parameters);
        optimizer.BeginStep(1e-3f);
        using CudaGraph graph = Capture(device, () => optimizer.QueueClipAndStep(1));
        double count = parameters.Sum(parameter => (double)parameter.Value.Count);
        Compare(run, device, name + $", times {Repetitions}", 34 * count, graph);
        Array.ForEach(parameters, parameter => parameter.Dispose());
    }

    private static void Compare(BenchmarkRun run, CudaDevice device, string name, double bytes, CudaGraph graph, double bytesOfBoth = 0, CudaGraph? both = null)
    {
        using Tensor from = device.Persistent([checked((int)(bytes / 2 / sizeof(float)))]), to = device.Persistent(from.Shape);
        using CudaGraph copies = Capture(device, () => to.CopyFrom(from));
        double work = 1e-9 * bytes * Repetitions;
        var copy = new Contender("copy", () => Replay(device, copies));
        var forward = new Contender(both is null ? "step" : "forward", () => Replay(device, graph));
        if (both is null)
        {
            run.Compare(name, work, "GB/s", copy, forward);
        }
        else
        {
            run.Compare(name, work, "GB/s", copy, forward, new Contender("and backward", () => Replay(device, both), 1e-9 * bytesOfBoth * Repetitions));
        }
    }

    /// <summary>Runs the work twice, so that kernels are compiled and memory is in the pool, and captures repetitions of it.</summary>
    private static CudaGraph Capture(CudaDevice device, Action once)
    {
        once();
        once();
        return device.Capture(() =>
        {
            for (int i = 0; i < Repetitions; i++)
            {
                once();
            }
        });
    }

    private static void Replay(CudaDevice device, CudaGraph graph)
    {
        graph.Launch();
        device.Synchronize();
    }

    private static Tensor Half(CudaDevice device, Shape shape, ulong stream)
    {
        var values = new float[shape.Count];
        new Philox(1, stream).FillNormal(values, 1);
        Tensor tensor = device.Persistent(shape, DType.BFloat16);
        tensor.CopyFrom<ushort>(Array.ConvertAll(values, value => (ushort)(BitConverter.SingleToUInt32Bits(value) >> 16)));
        return tensor;
    }

    /// <summary>An operator over activations of one shape.</summary>
    /// <param name="Name">Shown in the table.</param>
    /// <param name="Shape">Shape of every activation, inputs and outputs.</param>
    /// <param name="Inputs">How many activations it takes.</param>
    /// <param name="Weight">Shape of its float32 parameters, or null.</param>
    /// <param name="ForwardBytes">Bytes per element that the forward pass must move.</param>
    /// <param name="BackwardBytes">Bytes per element that the backward pass must move.</param>
    /// <param name="Run">The operator: activations and weight to outputs.</param>
    private sealed record Line(
        string Name, Shape Shape, int Inputs, Shape? Weight, double ForwardBytes, double BackwardBytes, Func<Tensor[], Tensor?, IReadOnlyList<Tensor>> Run);
}
