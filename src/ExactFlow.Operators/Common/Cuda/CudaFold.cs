using System.Runtime.InteropServices;
using ExactFlow.Cuda;

namespace ExactFlow.Operators;

/// <summary>The second step of sums over rows on a GPU: adds up, in a fixed order, what blocks of rows left in working memory.</summary>
internal static class CudaFold
{
    private const int Threads = 512, ColumnsPerBlock = 32;

    /// <summary>first[i] (+)= sum over rows r of partial[r, i] for i below <paramref name="split"/>; the columns behind go to <paramref name="second"/>.</summary>
    /// <param name="device">The GPU.</param>
    /// <param name="partial">Float32 <c>[rows, columns]</c>.</param>
    /// <param name="rows">Rows; none give zeros.</param>
    /// <param name="columns">Columns, at least 1.</param>
    /// <param name="split">Length of the first result.</param>
    /// <param name="first">Float32, or none.</param>
    /// <param name="second">Float32, or none.</param>
    public static void Run(CudaDevice device, nint partial, long rows, int columns, int split, CudaTarget first, CudaTarget second = default)
    {
        var arguments = new Arguments { Partial = partial, Rows = rows, Columns = columns, Split = split, First = first, Second = second };
        int blocks = (int)(((long)columns + ColumnsPerBlock - 1) / ColumnsPerBlock);
        CudaLaunch.Run(device, "fold_columns.cu", "fold_columns", new LaunchGeometry(blocks, 1, 1, Threads, 1, 1, 0), arguments);
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Arguments
    {
        public nint Partial;
        public long Rows;
        public int Columns, Split;
        public CudaTarget First, Second;
    }
}
