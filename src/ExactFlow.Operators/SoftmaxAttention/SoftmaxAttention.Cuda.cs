using System.Runtime.InteropServices;
using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Memory;

namespace ExactFlow.Operators;

public static unsafe partial class SoftmaxAttention
{
    /// <summary>Widest head that the kernels keep in registers.</summary>
    private const int MostWidth = 256;

    private const string PlainSource = "softmax_attention_plain.cu", TensorCoreSource = "softmax_attention_mma.cu", DecodeSource = "softmax_attention_decode.cu";

    /// <summary>Of the plain kernels: rows of a warp and columns it meets at a time; of those on tensor cores: threads, and columns at a time.</summary>
    private const int WarpRows = 8, PlainColumns = 32, TensorCoreThreads = 128, TensorCoreColumns = 64;

    /// <summary>Queries of a block on tensor cores in the forward pass, and rows of one in the backward pass.</summary>
    private const int ForwardRows = 128, BackwardRows = 64;

    private static readonly KernelName Deltas = KernelName.Of("attention_deltas"), Join = KernelName.Of("attention_decode_join");
    private static readonly KernelName[] ForwardKernels = Widths("attention_forward"), QueryKernels = Widths("attention_query_gradient"), KeyKernels = Widths("attention_key_gradients"), DecodeKernels = Widths("attention_decode");
    private static readonly string[] TensorCoreForward = ["attention_mma_forward_64", "attention_mma_forward_128"];
    private static readonly string[] TensorCoreQuery = ["attention_mma_query_gradient_64", "attention_mma_query_gradient_128"];
    private static readonly string[] TensorCoreKeys = ["attention_mma_key_gradients_64", "attention_mma_key_gradients_128"];

    /// <summary>The offsets of a packed row on the device, a tensor of the step; null for one document.</summary>
    private static Tensor? Upload(CudaDevice device, SequenceOffsets? offsets) => offsets is null ? null : device.From(offsets.Span, [offsets.Count + 1]);

    private static void Forward(CudaDevice device, Tensor q, Tensor k, Tensor v, float scale, Tensor? offsets, Tensor output, Tensor? logSums)
    {
        RequireWidths(device, q, v);
        AttentionArguments arguments = Describe(q, k, v, scale, offsets, output, logSums);
        if (q.Count == 0)
        {
            return;
        }

        if (IsForTensorCores(q, k, v, output))
        {
            var geometry = new LaunchGeometry(arguments.Tiles(ForwardRows, arguments.Heads), 1, 1, TensorCoreThreads, 1, 1, TensorCoreBytes(arguments.Dim, ForwardRows));
            CudaLaunch.Run(device, TensorCoreSource, TensorCoreForward[arguments.Dim / 128], geometry, arguments);
            return;
        }

        int shared = (arguments.Rows * RowFloats(arguments.Dim)) + ColumnFloats(arguments) + (arguments.Warps * WarpRows * PlainColumns);
        CudaLaunch.Run(device, PlainSource, ForwardKernels[arguments.Width], q.DType, arguments.PlainGeometry(arguments.Heads, shared), arguments);
    }

    private static void Backward(CudaDevice device, Tensor q, Tensor k, Tensor v, float scale, Tensor? offsets, Tensor output, Tensor logSums, Tensor outputGradient)
    {
        AttentionArguments arguments = Describe(q, k, v, scale, offsets, output, logSums);
        using var deltas = new Scratch(device, sizeof(float) * (long)arguments.Batch * arguments.Heads * arguments.Time);
        arguments.Deltas = deltas.Address;
        arguments.OutputGradient = outputGradient.Address;
        arguments.GradQ = CudaTarget.OfActivation(q);
        arguments.GradK = CudaTarget.OfActivation(k);
        arguments.GradV = CudaTarget.OfActivation(v);
        if (q.Count == 0)
        {
            return;
        }

        int perPiece = 16 / q.DType.Size();
        arguments.Whole = arguments.ValueDim % perPiece == 0 && (output.Address | outputGradient.Address) % 16 == 0 ? 1 : 0;
        long lanes = output.Count / (arguments.Whole != 0 ? perPiece : 1);
        CudaLaunch.Run(device, PlainSource, Deltas, q.DType, CudaLaunch.Grid(device, lanes), arguments);
        if (IsForTensorCores(q, k, v, outputGradient))
        {
            TensorCoreBackward(device, arguments);
            return;
        }

        int shared = (arguments.Rows * (RowFloats(arguments.Dim) + RowFloats(arguments.ValueDim))) + ColumnFloats(arguments) + (arguments.Warps * WarpRows * PlainColumns);
        if (arguments.GradQ.IsWanted)
        {
            CudaLaunch.Run(device, PlainSource, QueryKernels[arguments.Width], q.DType, arguments.PlainGeometry(arguments.Heads, shared), arguments);
        }

        if (arguments.GradK.IsWanted || arguments.GradV.IsWanted)
        {
            CudaLaunch.Run(device, PlainSource, KeyKernels[arguments.Width], q.DType, arguments.PlainGeometry(arguments.KvHeads, shared), arguments);
        }
    }

    private static void TensorCoreBackward(CudaDevice device, in AttentionArguments arguments)
    {
        int kind = arguments.Dim / 128, shared = TensorCoreBytes(arguments.Dim, 2 * BackwardRows);
        if (arguments.GradQ.IsWanted)
        {
            CudaLaunch.Run(device, TensorCoreSource, TensorCoreQuery[kind], new LaunchGeometry(arguments.Tiles(BackwardRows, arguments.Heads), 1, 1, TensorCoreThreads, 1, 1, shared), arguments);
        }

        if (arguments.GradK.IsWanted || arguments.GradV.IsWanted)
        {
            int scalars = 2 * 2 * TensorCoreColumns * sizeof(float);
            CudaLaunch.Run(
                device, TensorCoreSource, TensorCoreKeys[kind], new LaunchGeometry(arguments.Tiles(BackwardRows, arguments.KvHeads), 1, 1, TensorCoreThreads, 1, 1, shared + scalars), arguments);
        }
    }

    private static void DecodeStep(CudaDevice device, Tensor q, Tensor keyCache, Tensor valueCache, int length, float scale, Tensor output)
    {
        RequireWidths(device, q, valueCache);
        if (output.Count == 0)
        {
            return;
        }

        // Keys of a block at a time, query heads of a block; fewer keys than this per block are not worth a second kernel.
        const int KeysAtATime = 16, BlockHeads = 4, FewestKeys = 64;
        int heads = q.Shape[2], kvHeads = keyCache.Shape[2], dim = q.Shape[3], valueDim = valueCache.Shape[3], width = WidthOf(dim, valueDim);
        int rows = checked(q.Shape[0] * kvHeads * (((heads / kvHeads) + BlockHeads - 1) / BlockHeads));
        int wanted = Math.Clamp(4 * device.MultiprocessorCount / rows, 1, (length + FewestKeys - 1) / FewestKeys);
        int span = ((((length + wanted - 1) / wanted) + KeysAtATime - 1) / KeysAtATime) * KeysAtATime, splits = (length + span - 1) / span;
        using var parts = new Scratch(device, splits == 1 ? 0 : sizeof(float) * (long)q.Shape[0] * heads * splits * (valueDim + 2));
        int wholeWidth = 64 << width;
        var arguments = new DecodeArguments
        {
            Q = q.Address,
            K = keyCache.Address,
            V = valueCache.Address,
            Output = output.Address,
            Parts = parts.Address,
            Batch = q.Shape[0],
            Capacity = keyCache.Shape[1],
            Length = length,
            Heads = heads,
            KvHeads = kvHeads,
            Dim = dim,
            ValueDim = valueDim,
            Splits = splits,
            Span = span,
            Whole = dim == wholeWidth && valueDim == wholeWidth && (q.Address | keyCache.Address | valueCache.Address) % 16 == 0 ? 1 : 0,
            Scale = scale,
        };
        CudaLaunch.Run(device, DecodeSource, DecodeKernels[width], q.DType, new LaunchGeometry(checked(rows * splits), 1, 1, 128, 1, 1, 0), arguments);
        if (splits > 1)
        {
            CudaLaunch.Run(device, DecodeSource, Join, q.DType, new LaunchGeometry(checked(q.Shape[0] * heads), 1, 1, 128, 1, 1, 0), arguments);
        }
    }

    private static KernelName[] Widths(string name) => [KernelName.Of($"{name}_64"), KernelName.Of($"{name}_128"), KernelName.Of($"{name}_256")];

    /// <summary>Which of the three widths holds both heads.</summary>
    private static int WidthOf(int dim, int valueDim) => Math.Max(dim, valueDim) switch { <= 64 => 0, <= 128 => 1, _ => 2 };

    private static void RequireWidths(CudaDevice device, Tensor q, Tensor v)
    {
        if (q.Shape[3] > MostWidth || v.Shape[3] > MostWidth)
        {
            throw new InvalidInputException(
                $"SoftmaxAttention on {device.Name} takes heads of at most {MostWidth} numbers, but q is {q.Shape} and v is {v.Shape}: use more and smaller heads, or --device cpu.");
        }
    }

    private static bool IsForTensorCores(Tensor q, Tensor k, Tensor v, Tensor output)
        => q.DType == DType.BFloat16 && q.Shape[3] is 64 or 128 && q.Shape[3] == v.Shape[3] && (q.Address | k.Address | v.Address | output.Address) % 16 == 0;

    /// <summary>Shared memory of the kernels on tensor cores: the block's rows and two stages of two tiles of columns, padded by 16 bytes.</summary>
    private static int TensorCoreBytes(int dim, int rows) => (rows + (4 * TensorCoreColumns)) * (dim + 8) * 2;

    /// <summary>Floats of a row in shared memory, as <c>row_floats</c> and <c>column_floats</c> of the kernels.</summary>
    private static int RowFloats(int width) => (width + 3) & ~3;

    private static int ColumnFloats(in AttentionArguments arguments)
        => PlainColumns * (((((arguments.Dim + 3) >> 2) | 1) << 2) + ((((arguments.ValueDim + 3) >> 2) | 1) << 2));

    private static AttentionArguments Describe(Tensor q, Tensor k, Tensor v, float scale, Tensor? offsets, Tensor output, Tensor? logSums)
        => new()
        {
            Q = q.Address,
            K = k.Address,
            V = v.Address,
            Output = output.Address,
            LogSums = logSums?.Address ?? 0,
            Offsets = offsets?.Address ?? 0,
            Documents = offsets is null ? 1 : offsets.Shape[0] - 1,
            Batch = q.Shape[0],
            Time = q.Shape[1],
            Heads = q.Shape[2],
            KvHeads = k.Shape[2],
            Dim = q.Shape[3],
            ValueDim = v.Shape[3],
            Scale = scale,
        };

    /// <summary><c>AttentionArgs</c> of the kernels.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct AttentionArguments
    {
        public nint Q, K, V, Output, LogSums, OutputGradient, Deltas;
        public CudaTarget GradQ, GradK, GradV;
        public nint Offsets;
        public int Documents, Batch, Time, Heads, KvHeads, Dim, ValueDim, Whole;
        public float Scale;

        public readonly int Width => WidthOf(Dim, ValueDim);

        /// <summary>Warps of a block of the plain kernels: fewer where rows are long, for their shared memory.</summary>
        public readonly int Warps => Dim + ValueDim > MostWidth ? 4 : 8;

        public readonly int Rows => Warps * WarpRows;

        /// <summary>Blocks of <paramref name="rows"/> tokens over all heads.</summary>
        public readonly int Tiles(int rows, int heads) => checked((int)(((long)Time + rows - 1) / rows * heads * Batch));

        public readonly LaunchGeometry PlainGeometry(int heads, int sharedFloats) => new(Tiles(Rows, heads), 1, 1, Warps * 32, 1, 1, sharedFloats * sizeof(float));
    }

    /// <summary><c>AttentionDecodeArgs</c> of the kernels.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct DecodeArguments
    {
        public nint Q, K, V, Output, Parts;
        public int Batch, Capacity, Length, Heads, KvHeads, Dim, ValueDim, Splits, Span, Whole;
        public float Scale;
    }
}
