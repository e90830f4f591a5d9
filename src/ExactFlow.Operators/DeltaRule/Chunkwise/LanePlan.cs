using System.Numerics;
using ExactFlow.Tensors.Parallel;

namespace ExactFlow.Operators;

/// <summary>How a call is divided into <see cref="Lane"/>s: sequences times value heads, times slices of value columns where those are fewer than the workers.</summary>
internal readonly struct LanePlan
{
    /// <summary>Narrower slices would repeat the work on keys for too few columns.</summary>
    private const int SmallestSlice = 16;

    private readonly int heads;
    private readonly int columns;

    private LanePlan(int sequences, int heads, int columns, int slices)
    {
        this.heads = heads;
        this.columns = columns;
        SliceColumns = RoundUp((columns + slices - 1) / slices);
        Slices = (columns + SliceColumns - 1) / SliceColumns;
        Count = sequences * heads * Slices;
    }

    /// <summary>Lanes of the call.</summary>
    public int Count { get; }

    /// <summary>Slices of each head.</summary>
    public int Slices { get; }

    /// <summary>Columns of the widest slice.</summary>
    public int SliceColumns { get; }

    public static LanePlan For<T>(in DeltaRuleCall<T> call, WorkerPool workers)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        int lanes = Math.Max(1, call.Sequences * call.Sizes.ValueHeads);
        int wanted = lanes >= workers.WorkerCount ? 1 : (workers.WorkerCount + lanes - 1) / lanes;
        int most = Math.Max(1, call.Sizes.ValueDim / SmallestSlice);
        return new LanePlan(call.Sequences, call.Sizes.ValueHeads, call.Sizes.ValueDim, Math.Min(wanted, most));
    }

    /// <summary>A lane by number.</summary>
    public Lane this[int index]
    {
        get
        {
            int slice = index % Slices;
            int head = index / Slices;
            int first = slice * SliceColumns;
            return new Lane(head / heads, head % heads, first, Math.Min(SliceColumns, columns - first));
        }
    }

    private int RoundUp(int width) => Math.Min(columns, (width + SmallestSlice - 1) / SmallestSlice * SmallestSlice);
}
