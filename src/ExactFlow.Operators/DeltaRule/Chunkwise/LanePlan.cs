using System.Numerics;
using ExactFlow.Tensors.Parallel;

namespace ExactFlow.Operators;

/// <summary>
/// How a call is divided into <see cref="Lane"/>s: sequences times value heads; where those are fewer than the workers, times slices of value columns;
/// and where columns run out as well, times segments of the sequence.
/// </summary>
internal readonly struct LanePlan
{
    /// <summary>Narrower slices would repeat the work on keys for too few columns.</summary>
    private const int SmallestSlice = 16;

    /// <summary>Segments run part of the work twice, so shorter ones do not pay.</summary>
    private const int FewestChunksPerSegment = 4;

    private readonly int heads;
    private readonly int columns;

    private LanePlan(int sequences, int heads, int columns, int slices, int segments)
    {
        this.heads = heads;
        this.columns = columns;
        SliceColumns = RoundUp((columns + slices - 1) / slices);
        Slices = (columns + SliceColumns - 1) / SliceColumns;
        Segments = segments;
        Heads = sequences * heads;
        Count = Heads * Slices * segments;
    }

    /// <summary>Lanes of the call.</summary>
    public int Count { get; }

    /// <summary>Heads of all sequences.</summary>
    public int Heads { get; }

    /// <summary>Slices of each head.</summary>
    public int Slices { get; }

    /// <summary>Columns of the widest slice.</summary>
    public int SliceColumns { get; }

    /// <summary>Segments of each sequence.</summary>
    public int Segments { get; }

    /// <summary>The plan of a call; only some forms can run segments.</summary>
    public static LanePlan For<T>(in DeltaRuleCall<T> call, WorkerPool workers, bool mayUseSegments)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        int lanes = Math.Max(1, call.Sequences * call.Sizes.ValueHeads);
        int most = Math.Max(1, call.Sizes.ValueDim / SmallestSlice);
        int slices = Math.Min(Share(workers.WorkerCount, lanes), most);
        int segments = mayUseSegments ? Math.Min(Share(workers.WorkerCount, lanes * slices), call.ChunksOf(call.Sizes.Time) / FewestChunksPerSegment) : 1;
        return new LanePlan(call.Sequences, call.Sizes.ValueHeads, call.Sizes.ValueDim, slices, Math.Max(1, segments));
    }

    /// <summary>A lane by number.</summary>
    public Lane Lane<T>(in DeltaRuleCall<T> call, int index)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        int slice = index % Slices;
        int head = index / Slices / Segments;
        int segment = index / Slices % Segments;
        int first = slice * SliceColumns;
        int chunks = call.ChunksOf(call.Length(head / heads));
        return new Lane(
            head / heads,
            head % heads,
            first,
            Math.Min(SliceColumns, columns - first),
            segment,
            (int)((long)segment * chunks / Segments),
            (int)((segment + 1L) * chunks / Segments));
    }

    private static int Share(int workers, int lanes) => lanes >= workers ? 1 : (workers + lanes - 1) / lanes;

    private int RoundUp(int width) => Math.Min(columns, (width + SmallestSlice - 1) / SmallestSlice * SmallestSlice);
}
