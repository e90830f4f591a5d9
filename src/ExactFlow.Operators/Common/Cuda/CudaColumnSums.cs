using System.Runtime.InteropServices;
using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Memory;

namespace ExactFlow.Operators;

/// <summary>Sums over rows on a GPU, in an order that depends on the shape only: the gradient of a vector that is added to every row.</summary>
internal static class CudaColumnSums
{
    private const string Source = "column_sums.cu";

    /// <summary>Columns of a block are this many pieces.</summary>
    private const int Pieces = 128;

    private const int MaxBlocks = 128, SmallestBlock = 32;
    private static readonly KernelName Single = KernelName.Of("column_sums"), Vector = KernelName.Of("column_sums_pieces");

    /// <summary>sums[c] = sum over r of x[r, c], float32, written or added.</summary>
    /// <param name="device">The GPU.</param>
    /// <param name="x">Float32 or bfloat16 [..., columns].</param>
    /// <param name="sums">Where the float32 [columns] go.</param>
    public static void Run(CudaDevice device, Tensor x, CudaTarget sums)
    {
        long rows = x.Shape.RowCount(), columns = x.Shape[^1];
        if (columns == 0)
        {
            return;
        }

        int blocks = (int)Math.Clamp((rows + SmallestBlock - 1) / SmallestBlock, 1, MaxBlocks);
        int perPiece = 16 / x.DType.Size();
        bool whole = columns % perPiece == 0 && x.Address % 16 == 0;
        long pieces = whole ? columns / perPiece : columns;
        using var partials = new Scratch(device, blocks * columns * sizeof(float));
        var arguments = new Arguments
        {
            X = x.Address,
            Partials = partials.Address,
            Sums = sums,
            Rows = rows,
            Columns = columns,
            Span = (rows + blocks - 1) / blocks,
            Blocks = blocks,
        };
        var grid = new LaunchGeometry(checked((int)((pieces + Pieces - 1) / Pieces)), blocks, 1, 4 * Pieces, 1, 1, 0);
        CudaLaunch.Run(device, Source, whole ? Vector : Single, x.DType, grid, arguments);
        CudaLaunch.Run(device, Source, "column_sums_of_blocks", new LaunchGeometry(checked((int)((columns + 255) / 256)), 1, 1, 256, 1, 1, 0), arguments);
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Arguments
    {
        public nint X, Partials;
        public CudaTarget Sums;
        public long Rows, Columns, Span;
        public int Blocks;
    }
}
