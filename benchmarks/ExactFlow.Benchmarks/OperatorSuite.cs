using System.Reflection;
using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;
using ExactFlow.Tensors.Parallel;
using ExactFlow.Tensors.Randomness;
using ExactFlow.Training.Benchmarks;

namespace ExactFlow.Benchmarks;

/// <summary>
/// The operators whose cost is the memory they pass over, at the benchmark shapes of their case tables: GB/s of the bytes that they must move,
/// beside a copy of as many bytes under the same circumstances. Gradients are written over, not added.
/// </summary>
public static unsafe class OperatorSuite
{
    /// <summary>Above this many operations per byte an operator is bound by arithmetic, and belongs to another suite.</summary>
    private const double ArithmeticBound = 32;

    /// <summary>Runs the suite.</summary>
    public static void Run(BenchmarkRun run)
    {
        foreach (int threads in run.ThreadCounts)
        {
            using var device = new CpuDevice(threads);
            foreach (OperatorCase operatorCase in Cases())
            {
                string name = $"{threads}t {operatorCase}";
                if (run.Wants(name))
                {
                    Measure(run, name, operatorCase, device);
                }
            }
        }
    }

    private static void Measure(BenchmarkRun run, string name, OperatorCase operatorCase, CpuDevice device)
    {
        Tensor[] inputs = [.. operatorCase.Inputs.Select(input => MakeInput(device, operatorCase, input))];
        Tensor[] gradients = MakeOutputGradients(device, operatorCase, inputs);
        foreach ((Tensor tensor, CaseInput input) in inputs.Zip(operatorCase.Inputs))
        {
            if (input.Differentiable && operatorCase.BackwardBytes > 0)
            {
                tensor.RequireGrad();
            }
        }

        double both = operatorCase.ForwardBytes + operatorCase.BackwardBytes;
        long half = (long)(operatorCase.ForwardBytes / 2 / sizeof(float));
        using Tensor source = device.Persistent([(int)half]);
        using Tensor target = device.Persistent([(int)half]);
        var copy = new Contender("copy", () => Copy(device.Workers, source, target));
        var forward = new Contender("forward", () => Forward(operatorCase, device, inputs));
        var forwardAndBackward = new Contender("and backward", () => ForwardAndBackward(operatorCase, device, inputs, gradients)) { Work = both * 1e-9 };
        if (operatorCase.BackwardBytes > 0)
        {
            run.Compare(name, operatorCase.ForwardBytes * 1e-9, "GB/s", copy, forward, forwardAndBackward);
        }
        else
        {
            run.Compare(name, operatorCase.ForwardBytes * 1e-9, "GB/s", copy, forward);
        }

        foreach (Tensor tensor in (Tensor[])[.. inputs, .. gradients])
        {
            tensor.Dispose();
        }
    }

    private static void Forward(OperatorCase operatorCase, CpuDevice device, Tensor[] inputs)
    {
        using Step step = device.BeginStep(recordGradients: false);
        operatorCase.Run(inputs);
    }

    private static void ForwardAndBackward(OperatorCase operatorCase, CpuDevice device, Tensor[] inputs, Tensor[] gradients)
    {
        foreach (Tensor input in inputs)
        {
            input.ClearGrad();
        }

        using Step step = device.BeginStep();
        IReadOnlyList<Tensor> outputs = operatorCase.Run(inputs);
        for (int i = 1; i < outputs.Count; i++)
        {
            outputs[i].SeedGrad(gradients[i]);
        }

        outputs[0].Backward(gradients[0]);
    }

    private static void Copy(WorkerPool workers, Tensor source, Tensor target)
    {
        const int Block = 16 * 1024;
        workers.For((int)((source.Count + Block - 1) / Block), new CopyBody { Source = source.Floats, Target = target.Floats, Count = source.Count, Block = Block });
    }

    private static Tensor MakeInput(CpuDevice device, OperatorCase operatorCase, CaseInput input)
    {
        Tensor tensor = device.Persistent(input.Shape, input.Values == CaseValues.Integers ? DType.Int32 : DType.Float32);
        var random = new Philox(1, Philox.StreamOf($"{operatorCase}/{input.Name}"));
        for (int i = 0; input.Values == CaseValues.Integers && i < tensor.Count; i++)
        {
            tensor.Span<int>()[i] = random.Below((ulong)i, (int)input.Scale);
        }

        if (input.Values != CaseValues.Integers)
        {
            random.FillNormal(tensor.Span<float>(), input.Scale);
        }

        return tensor;
    }

    private static Tensor[] MakeOutputGradients(CpuDevice device, OperatorCase operatorCase, Tensor[] inputs)
    {
        using Step step = device.BeginStep(recordGradients: false);
        return [.. operatorCase.Run(inputs).Select(output =>
        {
            Tensor gradient = device.Persistent(output.Shape);
            new Philox(1, 2).FillNormal(gradient.Span<float>(), 1);
            return gradient;
        })];
    }

    private static IEnumerable<OperatorCase> Cases()
        => typeof(IOperatorCases).Assembly.GetTypes()
            .Where(type => type.IsClass && type.IsAssignableTo(typeof(IOperatorCases)))
            .SelectMany(type => (IEnumerable<OperatorCase>)type.GetProperty(nameof(IOperatorCases.Cases), BindingFlags.Public | BindingFlags.Static)!.GetValue(null)!)
            .Where(operatorCase => operatorCase is { IsBenchmark: true, IsSteady: true, ForwardBytes: > 0 })
            .Where(operatorCase => operatorCase.ForwardFlops < ArithmeticBound * operatorCase.ForwardBytes);

    private struct CopyBody : IParallelBody
    {
        public float* Source;
        public float* Target;
        public long Count;
        public int Block;

        public readonly void Run(int index, int worker)
        {
            long start = (long)index * Block;
            long bytes = Math.Min(Block, Count - start) * sizeof(float);
            Buffer.MemoryCopy(Source + start, Target + start, bytes, bytes);
        }
    }
}
