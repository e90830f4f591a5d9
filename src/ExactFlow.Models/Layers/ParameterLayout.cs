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
    /// <summary>Numbers that are drawn in host memory at a time for a device that has its own.</summary>
    private const int HostPiece = 1 << 24;

    private readonly List<ModelParameter> parameters = [];

    /// <summary>The parameters, in order.</summary>
    public IReadOnlyList<ModelParameter> Parameters => parameters;

    /// <summary>Numbers in all parameters together.</summary>
    public long Count { get; private set; }

    /// <summary>Declares a parameter: a matrix that multiplies activations or is looked up, or a vector.</summary>
    public ModelParameter Add(string name, Shape shape, Initializer initializer, bool weightDecay = true) => Add(name, shape, initializer, weightDecay, shape, shape.Rank == 2);

    /// <summary>Declares the weight of a depthwise convolution, [channels, width] here and [channels, 1, width] in files.</summary>
    public ModelParameter AddConvolution(string name, int channels, int width, Initializer initializer)
        => Add(name, [channels, width], initializer, true, [channels, 1, width], isMatrix: false);

    /// <summary>Declares the weight of a norm: ones, not decayed.</summary>
    public ModelParameter AddNorm(string name, int width) => Add(name, [width], Initializers.Ones, weightDecay: false);

    /// <summary>Gives every parameter memory and its initial value.</summary>
    /// <param name="device">Where they live.</param>
    /// <param name="seed">Seed of the initial values.</param>
    internal void Draw(Device device, ulong seed)
    {
        foreach (ModelParameter parameter in parameters)
        {
            parameter.Allocate(device);
        }

        Initialize(device, seed);
    }

    /// <summary>Makes what operators read agree with the values.</summary>
    /// <param name="precision">Number format that matrices are computed with; bfloat16 adds working copies.</param>
    internal void Refresh(DType precision)
    {
        foreach (ModelParameter parameter in parameters)
        {
            parameter.Refresh(precision);
        }
    }

    /// <summary>Gives the memory back of the parameters that have some.</summary>
    internal void Release()
    {
        foreach (ModelParameter parameter in parameters)
        {
            parameter.Release();
        }
    }

    /// <summary>Draws all values: on the CPU in place, for other devices in host memory, a piece at a time. The values are the same.</summary>
    private unsafe void Initialize(Device device, ulong seed)
    {
        using WorkerPool? ownWorkers = device is CpuDevice ? null : new WorkerPool(Environment.ProcessorCount);
        float[] piece = device is CpuDevice ? [] : new float[Math.Min(HostPiece, parameters.Max(parameter => parameter.Shape.Count))];
        foreach (ModelParameter parameter in parameters)
        {
            var fill = new Fill { Random = new Philox(seed, Philox.StreamOf(WithoutRoot(parameter.Name))), Initializer = parameter.Initializer };
            if (device is CpuDevice cpu)
            {
                fill.Run(cpu.Workers, parameter.Value.Floats, 0, parameter.Shape.Count);
                continue;
            }

            for (long start = 0; start < parameter.Shape.Count; start += piece.Length)
            {
                int count = (int)Math.Min(piece.Length, parameter.Shape.Count - start);
                fixed (float* destination = piece)
                {
                    fill.Run(ownWorkers!, destination, start, count);
                }

                parameter.Value.CopyFrom<float>(piece.AsSpan(0, count), start);
            }
        }
    }

    private static string WithoutRoot(string name)
        => name.StartsWith("model.", StringComparison.Ordinal) || name.StartsWith("backbone.", StringComparison.Ordinal) ? name[(name.IndexOf('.', StringComparison.Ordinal) + 1)..] : name;

    private ModelParameter Add(string name, Shape shape, Initializer initializer, bool weightDecay, Shape fileShape, bool isMatrix)
    {
        var parameter = new ModelParameter(name, shape, initializer, weightDecay, fileShape, isMatrix);
        parameters.Add(parameter);
        Count += shape.Count;
        return parameter;
    }

    private unsafe struct Fill : IParallelBody
    {
        private const int BlockLength = 16_384;

        public Philox Random;
        public Initializer Initializer;
        private float* destination;
        private long first;
        private long count;

        /// <summary>Draws values [first, first + count) of the parameter.</summary>
        public void Run(WorkerPool workers, float* values, long firstValue, long valueCount)
        {
            destination = values;
            first = firstValue;
            count = valueCount;
            workers.For(checked((int)((valueCount + BlockLength - 1) / BlockLength)), this);
        }

        public readonly void Run(int index, int worker)
        {
            long start = (long)index * BlockLength;
            long end = Math.Min(start + BlockLength, count);
            for (long i = start; i < end; i++)
            {
                destination[i] = (float)Initializer(Random, (ulong)(first + i));
            }
        }
    }
}
