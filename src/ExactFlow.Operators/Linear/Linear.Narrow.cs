using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Memory;

namespace ExactFlow.Operators;

/// <summary>Several narrow matrices times one input on a GPU: linear_narrow.cu.</summary>
public static partial class Linear
{
    private const string NarrowSource = "linear_narrow.cu";

    /// <summary>Sizes of linear_narrow.cu: threads of a block, rows of its tiles, outputs of a chunk and of one for the weights' gradients, matrices of a launch.</summary>
    private const int NarrowThreads = 256, NarrowRows = 128, NarrowChunk = 64, NarrowDepth = 64, NarrowGradientChunk = 128, MostNarrowParts = 8;

    /// <summary>The widest input, and the most outputs in all, that the kernels take; beyond, products of their own reach the chip's rate.</summary>
    private const int MostNarrowInputs = 128, MostNarrowOutputs = 512;

    /// <summary>Splits of the rows, at most: what they leave has to be written and read again.</summary>
    private const int MostNarrowSplits = 64;

    /// <summary>Which of the weights the joint kernels take: all that are aligned, if x is bfloat16 of few columns, in more rows than the kernel for few rows takes.</summary>
    private static int[] NarrowOnes(Tensor x, IReadOnlyList<Tensor> weights)
    {
        if (x.Device is not CudaDevice device || x.DType != DType.BFloat16 || x.Shape.RowCount() <= MostFewRows)
        {
            return [];
        }

        int inputs = x.Shape[^1];
        if (inputs is 0 or > MostNarrowInputs || !IsAligned(inputs, x.Address) || device.MaxSharedBytes < new NarrowWidth(inputs).MostBytes)
        {
            return [];
        }

        int[] joint = [.. Enumerable.Range(0, weights.Count).Where(i => weights[i].Shape[0] > 0 && IsAligned(weights[i].Shape[0], weights[i].Address))];
        return joint.Length <= MostNarrowParts && joint.Sum(i => (long)weights[i].Shape[0]) <= MostNarrowOutputs ? joint : [];
    }

    /// <summary>The same for gradients of their results: those of them that are there, unless the joint kernels cannot take one of them.</summary>
    private static int[] NarrowOnes(Tensor x, IReadOnlyList<Tensor> weights, IReadOnlyList<Tensor?> gradients)
    {
        int[] joint = [.. NarrowOnes(x, weights).Where(i => gradients[i] is not null)];
        return Array.TrueForAll(joint, i => gradients[i] is { DType: DType.BFloat16 } gradient && IsAligned(gradient.Shape[^1], gradient.Address)) ? joint : [];
    }

    /// <summary>Whether rows of so many bfloat16 numbers are made of whole pieces of 16 bytes.</summary>
    private static bool IsAligned(int columns, nint address) => columns % 8 == 0 && address % 16 == 0;

    private static Tensor[] NarrowForward(CudaDevice device, Tensor x, Tensor[] weights)
    {
        var results = new Tensor[weights.Length];
        var arguments = NarrowArguments.Of(x);
        for (int i = 0; i < results.Length; i++)
        {
            results[i] = device.Empty(x.Shape.WithLast(weights[i].Shape[0]), x.DType);
            arguments.Add(weights[i], results[i], default, DType.Float32, NarrowChunk);
        }

        // Where rows alone do not fill the GPU, blocks share the chunks of a tile. (Two blocks for each multiprocessor are slower: README.md.)
        var width = new NarrowWidth(x.Shape[^1]);
        int tiles = Blocks(arguments.Rows, NarrowRows);
        int shares = (int)Math.Clamp(device.MultiprocessorCount / tiles, 1, arguments.Chunks);
        CudaLaunch.Run(device, NarrowSource, width.Forward, new LaunchGeometry(tiles, shares, 1, NarrowThreads, 1, 1, width.ForwardBytes), arguments);
        return results;
    }

    private static void NarrowInputGradient(CudaDevice device, Tensor?[] gradients, Tensor[] weights, Tensor target, bool accumulate)
    {
        var arguments = NarrowArguments.Of(target);
        arguments.InputGradient = new CudaTarget(target.Address, accumulate);
        for (int i = 0; i < weights.Length; i++)
        {
            if (gradients[i] is { } gradient)
            {
                arguments.Add(weights[i], gradient, default, DType.Float32, NarrowChunk);
            }
        }

        var geometry = new LaunchGeometry(Blocks(arguments.Rows, NarrowRows), Blocks(arguments.Inputs, NarrowChunk), 1, NarrowThreads, 1, 1, NarrowWidth.InputGradientBytes);
        CudaLaunch.Run(device, NarrowSource, "linear_narrow_input_gradient_64", geometry, arguments);
    }

    private static void NarrowWeightGradients(CudaDevice device, Tensor?[] gradients, Tensor x, Tensor[] weights)
    {
        var arguments = NarrowArguments.Of(x);
        for (int i = 0; i < weights.Length; i++)
        {
            if (gradients[i] is { } gradient && weights[i].RequiresGrad)
            {
                Tensor target = weights[i].GradForWrite(out bool accumulate);
                arguments.Add(weights[i], gradient, new CudaTarget(target.Address, accumulate), target.DType, NarrowGradientChunk);
            }
        }

        if (arguments.Chunks == 0)
        {
            return;
        }

        // As many splits as give each multiprocessor a whole chunk, in tiles that all but the last split fill.
        var width = new NarrowWidth(x.Shape[^1]);
        int tiles = Blocks(arguments.Rows, NarrowDepth);
        int most = (int)Math.Clamp((long)device.MultiprocessorCount * NarrowGradientChunk / arguments.Outputs, 1, Math.Min(tiles, MostNarrowSplits));
        arguments.Split = (long)Blocks(tiles, most) * NarrowDepth;
        arguments.Splits = Blocks(arguments.Rows, (int)arguments.Split);
        long count = arguments.Outputs * arguments.Inputs;
        using var partial = new Scratch(device, arguments.Splits * count * sizeof(float));
        arguments.Partial = partial.Address;
        var geometry = new LaunchGeometry((int)arguments.Splits, (int)arguments.Chunks, 1, NarrowThreads, 1, 1, width.WeightGradientsBytes);
        CudaLaunch.Run(device, NarrowSource, width.WeightGradients, geometry, arguments);
        CudaLaunch.Run(device, NarrowSource, "linear_narrow_fold", new LaunchGeometry(Blocks(count, NarrowThreads), 1, 1, NarrowThreads, 1, 1, 0), arguments);
    }

    private static int Blocks(long count, int size) => checked((int)((count + size - 1) / size));

    /// <summary>The instances of the kernels for an input of some width, which is rounded up to 64 or 128, and the shared memory of their blocks.</summary>
    private readonly struct NarrowWidth(int inputs)
    {
        /// <summary>Elements that rows in shared memory are longer than the matrix, so that eight of them begin in different banks.</summary>
        private const int Padding = 8;

        /// <summary>Bytes of what eight warps stage of the results (32 x 40 elements each).</summary>
        private const int StageBytes = 8 * 32 * 40 * sizeof(ushort);

        private int Rounded => inputs <= 64 ? 64 : 128;

        public string Forward => Rounded == 64 ? "linear_narrow_forward_64" : "linear_narrow_forward_128";

        public string WeightGradients => Rounded == 64 ? "linear_narrow_weight_gradients_64" : "linear_narrow_weight_gradients_128";

        /// <summary>The rows of x, whose place the staged results take, and two chunks of weights.</summary>
        public int ForwardBytes => Math.Max(Bytes(NarrowRows, Rounded), StageBytes) + (2 * Bytes(NarrowChunk, Rounded));

        /// <summary>Twice a chunk of the results' gradients and of the weights, for 64 columns of the input's gradient.</summary>
        public static int InputGradientBytes => 2 * (Bytes(NarrowRows, NarrowChunk) + Bytes(NarrowChunk, NarrowChunk));

        /// <summary>Twice a tile of the results' gradients and of x.</summary>
        public int WeightGradientsBytes => 2 * (Bytes(NarrowDepth, NarrowGradientChunk) + Bytes(NarrowDepth, Rounded));

        public int MostBytes => Math.Max(ForwardBytes, Math.Max(InputGradientBytes, WeightGradientsBytes));

        private static int Bytes(int rows, int columns) => rows * (columns + Padding) * sizeof(ushort);
    }

    /// <summary><c>Part</c> of linear_narrow.cu.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct NarrowPart
    {
        public nint Weight, Y;
        public CudaTarget Gradient;
        public long Outputs, Wide;
    }

    [InlineArray(MostNarrowParts)]
    private struct NarrowParts
    {
        private NarrowPart first;
    }

    /// <summary><c>NarrowArgs</c> of linear_narrow.cu.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct NarrowArguments
    {
        public nint X;
        public CudaTarget InputGradient;
        public nint Partial;
        public long Rows, Inputs, Outputs, Chunks, Split, Splits;
        public NarrowParts Parts;

        public static NarrowArguments Of(Tensor x) => new() { X = x.Address, Rows = x.Shape.RowCount(), Inputs = x.Shape[^1] };

        /// <summary>One more matrix, with its result or the gradient of that, gone through in chunks of <paramref name="chunk"/> outputs.</summary>
        public void Add(Tensor weight, Tensor y, CudaTarget gradient, DType gradientType, int chunk)
        {
            int outputs = weight.Shape[0], part = 0;
            while (Parts[part].Outputs > 0)
            {
                part++;
            }

            Parts[part] = new NarrowPart { Weight = weight.Address, Y = y.Address, Gradient = gradient, Outputs = outputs, Wide = gradientType == DType.Float32 ? 1 : 0 };
            Outputs += outputs;
            Chunks += Blocks(outputs, chunk);
        }
    }
}
