using ExactFlow.Tensors;
using ExactFlow.Tensors.Parallel;
using ExactFlow.Tensors.Randomness;

namespace ExactFlow.Models.Layers;

/// <summary>
/// The parameters of a model in the order in which layers declare them, which is the order of files. Initial values come from a random stream per
/// parameter name (without the root, <c>model.</c> or <c>backbone.</c>), so models that differ only in the rule start with the same weights where shapes agree.
/// </summary>
public sealed class ParameterLayout
{
    private readonly List<ModelParameter> parameters = [];

    /// <summary>The parameters, in order.</summary>
    public IReadOnlyList<ModelParameter> Parameters => parameters;

    /// <summary>Numbers in all parameters together.</summary>
    public long Count { get; private set; }

    /// <summary>Declares a parameter.</summary>
    public ModelParameter Add(string name, Shape shape, Initializer initializer, bool weightDecay = true) => Add(name, shape, initializer, weightDecay, shape);

    /// <summary>Declares the weight of a depthwise convolution, [channels, width] here and [channels, 1, width] in files.</summary>
    public ModelParameter AddConvolution(string name, int channels, int width, Initializer initializer)
        => Add(name, [channels, width], initializer, true, [channels, 1, width]);

    /// <summary>Declares the weight of a norm: ones, not decayed.</summary>
    public ModelParameter AddNorm(string name, int width) => Add(name, [width], Initializers.Ones, false);

    /// <summary>Gives every parameter memory and, with a seed, its initial value.</summary>
    /// <param name="device">Where they live.</param>
    /// <param name="seed">Seed of the initial values; null leaves zeros, for weights that are read from a file next.</param>
    internal void Allocate(Device device, ulong? seed)
    {
        foreach (ModelParameter parameter in parameters)
        {
            parameter.Allocate(device);
            if (seed is { } value)
            {
                Initialize(device, parameter, value);
            }
        }
    }

    private static unsafe void Initialize(Device device, ModelParameter parameter, ulong seed)
    {
        var fill = new Fill { Random = new Philox(seed, Philox.StreamOf(WithoutRoot(parameter.Name))), Initializer = parameter.Initializer, Count = parameter.Shape.Count };
        int blocks = checked((int)((fill.Count + Fill.BlockLength - 1) / Fill.BlockLength));
        if (device is CpuDevice cpu)
        {
            fill.Destination = parameter.Value.Floats;
            cpu.Workers.For(blocks, fill);
            return;
        }

        var values = new float[fill.Count];
        fixed (float* destination = values)
        {
            fill.Destination = destination;
            for (int block = 0; block < blocks; block++)
            {
                fill.Run(block, 0);
            }
        }

        parameter.Value.CopyFrom<float>(values);
    }

    private static string WithoutRoot(string name)
        => name.StartsWith("model.", StringComparison.Ordinal) || name.StartsWith("backbone.", StringComparison.Ordinal) ? name[(name.IndexOf('.', StringComparison.Ordinal) + 1)..] : name;

    private ModelParameter Add(string name, Shape shape, Initializer initializer, bool weightDecay, Shape fileShape)
    {
        var parameter = new ModelParameter(name, shape, initializer, weightDecay, fileShape);
        parameters.Add(parameter);
        Count += shape.Count;
        return parameter;
    }

    private unsafe struct Fill : IParallelBody
    {
        public const int BlockLength = 16_384;

        public Philox Random;
        public Initializer Initializer;
        public float* Destination;
        public long Count;

        public readonly void Run(int index, int worker)
        {
            long start = (long)index * BlockLength;
            long end = Math.Min(start + BlockLength, Count);
            for (long i = start; i < end; i++)
            {
                Destination[i] = (float)Initializer(Random, (ulong)i);
            }
        }
    }
}
