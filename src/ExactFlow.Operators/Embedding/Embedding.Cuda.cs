using System.Numerics;
using System.Runtime.InteropServices;
using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Memory;

namespace ExactFlow.Operators;

public static unsafe partial class Embedding
{
    private const string Source = "embedding.cu";

    /// <summary>Bits of an id that a pass of the sort looks at, tokens of one of its blocks, and tokens whose sum one block makes, as in the kernels.</summary>
    private const int DigitBits = 8, SortTile = 1024, Chunk = 64;

    /// <summary>A small table's rows, so that a block has room for all of them, and elements, so that what blocks leave is little; a block's columns and its fewest tokens.</summary>
    private const int SmallVocabulary = 128, SmallTable = 1 << 16, SumColumns = 128, ShortestStretch = 64;

    private static readonly KernelName Sums = KernelName.Of("embedding_sums");

    private static readonly KernelName Gather = KernelName.Of("embedding_gather");
    private static readonly GradientKernels Scalars = new("embedding"), Pieces = new("embedding", "_pieces");

    private static void Forward(CudaDevice device, Tensor ids, Tensor table, Tensor y)
    {
        if (ids.Count == 0)
        {
            return;
        }

        long dim = table.Shape[1];
        var arguments = new GatherArguments
        {
            Ids = ids.Address,
            Table = table.Address,
            Y = y.Address,
            Tokens = ids.Count,
            Dim = dim,
            Vocabulary = table.Shape[0],
            Whole = IsWhole(dim, table.DType, table.Address | y.Address) ? 1 : 0,
        };
        CudaLaunch.Run(device, Source, Gather, table.DType, CudaLaunch.Grid(device, ids.Count * 32), arguments);
    }

    private static void Backward(CudaDevice device, Tensor ids, Tensor table, Tensor outputGradient)
    {
        int tokens = checked((int)ids.Count), vocabulary = table.Shape[0], dim = table.Shape[1];
        Tensor target = table.GradForWrite(out bool accumulate);
        if (vocabulary <= SmallVocabulary && (long)vocabulary * dim <= SmallTable && target.DType == DType.Float32)
        {
            SumStretches(device, ids, outputGradient, vocabulary, dim, new CudaTarget(target.Address, accumulate));
            return;
        }

        int blocks = Math.Max(1, (tokens + SortTile - 1) / SortTile), chunks = (tokens + Chunk - 1) / Chunk;
        using var sorted = new Scratch(device, 4L * tokens * sizeof(int));
        using var counts = new Scratch(device, (long)blocks * sizeof(int) << DigitBits);
        using var ranges = new Scratch(device, 2L * (vocabulary + 1) * sizeof(int));
        using var partials = new Scratch(device, 2L * chunks * dim * sizeof(float));
        var arguments = new GradientArguments
        {
            Ids = ids.Address,
            Counts = counts.Address,
            Starts = ranges.Address,
            Ends = ranges.Address + ((nint)(vocabulary + 1) * sizeof(int)),
            Partials = partials.Address,
            OutputGradient = outputGradient.Address,
            Table = new CudaTarget(target.Address, accumulate),
            Dim = dim,
            Tokens = tokens,
            Blocks = blocks,
            Vocabulary = vocabulary,
        };
        Sort(device, ref arguments, sorted.Address);

        bool isWhole = IsWhole(dim, outputGradient.DType, outputGradient.Address | target.Address);
        int perPiece = isWhole ? 16 / outputGradient.DType.Size() : 1;
        arguments.Groups = ((dim / perPiece) + 31) / 32;
        GradientKernels kernels = isWhole ? Pieces : Scalars;
        if (tokens > 0)
        {
            CudaLaunch.Run(device, Source, "embedding_ranges", CudaLaunch.Grid(device, tokens), arguments);
            CudaLaunch.Run(device, Source, kernels.Chunks, outputGradient.DType, new LaunchGeometry(chunks, 1, 1, 128, 1, 1, 0), arguments);
        }

        long warps = (long)vocabulary * arguments.Groups;
        var rows = new LaunchGeometry(checked((int)((warps + 3) / 4)), 1, 1, 128, 1, 1, 0);
        CudaLaunch.Run(device, Source, outputGradient.DType == target.DType ? kernels.Rows : kernels.RowsOfHalves, outputGradient.DType, rows, arguments);
    }

    /// <summary>The gradient of a small table in float32: its sums over stretches of tokens, then over these. Two blocks to a multiprocessor, or fewer where tokens are few.</summary>
    private static void SumStretches(CudaDevice device, Tensor ids, Tensor outputGradient, int vocabulary, int dim, CudaTarget target)
    {
        int tokens = (int)ids.Count, most = 2 * device.MultiprocessorCount;
        int stretch = Math.Max(ShortestStretch, (tokens + most - 1) / most), blocks = (tokens + stretch - 1) / stretch;
        using var sums = new Scratch(device, (long)blocks * vocabulary * dim * sizeof(float));
        if (blocks > 0)
        {
            var geometry = new LaunchGeometry(blocks, (dim + SumColumns - 1) / SumColumns, 1, SumColumns, 1, 1, (vocabulary + 1) * SumColumns * sizeof(float));
            CudaLaunch.Run(device, Source, Sums, outputGradient.DType, geometry, new SumsArguments
            {
                Ids = ids.Address,
                OutputGradient = outputGradient.Address,
                Sums = sums.Address,
                Dim = dim,
                Tokens = tokens,
                Stretch = stretch,
                Vocabulary = vocabulary,
            });
        }

        CudaFold.Run(device, sums.Address, blocks, vocabulary * dim, vocabulary * dim, target);
    }

    /// <summary>Sorts token positions by id, tokens of one id by position, and leaves them in KeysIn and TokensIn. The first count also clears the ranges.</summary>
    private static void Sort(CudaDevice device, ref GradientArguments arguments, nint memory)
    {
        nint array = (nint)arguments.Tokens * sizeof(int);
        var tiles = new LaunchGeometry(arguments.Blocks, 1, 1, 256, 1, 1, 0);
        int bits = BitOperations.Log2((uint)arguments.Vocabulary) + 1;
        for (int shift = 0; shift < bits; shift += DigitBits)
        {
            arguments.Shift = shift;
            arguments.KeysOut = memory;
            arguments.TokensOut = memory + array;
            CudaLaunch.Run(device, Source, "embedding_count", tiles, arguments);
            CudaLaunch.Run(device, Source, "embedding_offsets", new LaunchGeometry(1, 1, 1, 1024, 1, 1, 0), arguments);
            CudaLaunch.Run(device, Source, "embedding_scatter", tiles, arguments);
            arguments.KeysIn = arguments.KeysOut;
            arguments.TokensIn = arguments.TokensOut;
            memory += shift / DigitBits % 2 == 0 ? 2 * array : -2 * array;
        }
    }

    /// <summary>Whether rows begin at multiples of 16 bytes and consist of whole pieces of 16.</summary>
    private static bool IsWhole(long dim, DType type, nint addresses) => dim * type.Size() % 16 == 0 && addresses % 16 == 0;

    private sealed class GradientKernels(string name, string kind = "")
    {
        public KernelName Chunks { get; } = KernelName.Of($"{name}_chunks{kind}");

        public KernelName Rows { get; } = KernelName.Of($"{name}_rows{kind}");

        /// <summary>Gradients of bfloat16 to a float32 table.</summary>
        public KernelName RowsOfHalves { get; } = new("", $"{name}_rows{kind}_bfloat16_to_float32");
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct GatherArguments
    {
        public nint Ids, Table, Y;
        public long Tokens, Dim;
        public int Vocabulary, Whole;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct SumsArguments
    {
        public nint Ids, OutputGradient, Sums;
        public long Dim;
        public int Tokens, Stretch, Vocabulary;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct GradientArguments
    {
        public nint Ids, KeysIn, TokensIn, KeysOut, TokensOut, Counts, Starts, Ends, Partials, OutputGradient;
        public CudaTarget Table;
        public long Dim;
        public int Tokens, Blocks, Shift, Vocabulary, Groups;
    }
}
