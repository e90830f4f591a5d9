namespace ExactFlow.Operators;

/// <summary>
/// A division of rows into blocks that depends on the shape only, never on the number of threads: every block is one index of a parallel loop,
/// and sums over rows are formed per block and then over the blocks in order. So results have the same bits on any number of threads.
/// </summary>
internal readonly struct FixedBlocks
{
    /// <summary>Elements that are worth handing to another thread.</summary>
    private const int SmallestBlock = 8 * 1024;

    private FixedBlocks(long rows, long rowsPerBlock)
    {
        Rows = rows;
        RowsPerBlock = rowsPerBlock;
        Count = checked((int)((rows + rowsPerBlock - 1) / rowsPerBlock));
    }

    /// <summary>Rows in total.</summary>
    public long Rows { get; }

    /// <summary>Rows of every block but the last, which may have fewer.</summary>
    public long RowsPerBlock { get; }

    /// <summary>Number of blocks; 0 without rows.</summary>
    public int Count { get; }

    /// <summary>Blocks for a loop without sums over rows: about 16k elements each.</summary>
    public static FixedBlocks ForMap(long rows, long rowLength) => new(rows, Math.Max(1, 2 * SmallestBlock / Math.Max(rowLength, 1)));

    /// <summary>Blocks for a loop that also sums over rows: at most 64 partial sums.</summary>
    public static FixedBlocks ForSums(long rows, long rowLength)
        => new(rows, Math.Max((rows + 63) / 64, Math.Max(1, SmallestBlock / Math.Max(rowLength, 1))));

    /// <summary>First row of a block.</summary>
    public long Start(int block) => block * RowsPerBlock;

    /// <summary>One past the last row of a block.</summary>
    public long End(int block) => Math.Min(Rows, (block + 1) * RowsPerBlock);
}
