using System.Numerics;

namespace ExactFlow.Operators;

/// <summary>
/// The states at the boundaries of segments, so that segments of one sequence can run side by side. The recurrence is affine in the state:
/// a segment takes S to M S + N, with M its transition [keyDim, keyDim] and N what it makes of zero. M and N of all segments are computed in parallel,
/// a short scan gives every segment its true start, and nothing is neglected: rules without decay never forget.
/// Backwards the same with M transposed. The first segment (backwards the last) starts from what is known and needs no M, the last needs neither.
/// </summary>
/// <typeparam name="TL">Vector registers.</typeparam>
/// <typeparam name="T">float or double.</typeparam>
internal readonly unsafe struct Segments<TL, T>
    where TL : struct, ILanes<TL, T>
    where T : unmanaged, IFloatingPointIeee754<T>
{
    private readonly LanePlan plan;
    private readonly DeltaRuleSizes sizes;
    private readonly T* states;
    private readonly T* transitions;

    public Segments(T* memory, in DeltaRuleCall<T> call, LanePlan plan)
    {
        this.plan = plan;
        sizes = call.Sizes;
        states = memory;
        transitions = memory + ((long)plan.Heads * plan.Segments * sizes.StateSize);
    }

    /// <summary>Elements of memory that the states and transitions of a plan take.</summary>
    public static long Elements(in DeltaRuleCall<T> call, LanePlan plan)
        => plan.Segments == 1 ? 0 : (long)plan.Heads * plan.Segments * (call.Sizes.StateSize + ((long)call.Sizes.KeyDim * call.Sizes.KeyDim));

    /// <summary>This lane's columns of the state (backwards: its gradient) at the side of a segment where the pass enters it.</summary>
    public T* Boundary(Lane lane, int segment)
        => states + (((((long)lane.Sequence * sizes.ValueHeads) + lane.Head) * plan.Segments) + segment) * sizes.StateSize + lane.FirstColumn;

    public T* Transition(Lane lane)
        => transitions + (((((long)lane.Sequence * sizes.ValueHeads) + lane.Head) * plan.Segments) + lane.Segment) * sizes.KeyDim * sizes.KeyDim;

    /// <summary>From what segments make of zero to the true states: boundary[s + 1] += M_s boundary[s] in order, for the columns of a lane.</summary>
    public void ScanForward(Lane lane)
    {
        for (int segment = 1; segment + 1 < plan.Segments; segment++)
        {
            AddTransition(lane with { Segment = segment }, Boundary(lane, segment), Boundary(lane, segment + 1), isTransposed: false);
        }
    }

    /// <summary>Backwards: boundary[s - 1] += M_s^T boundary[s] in reverse order.</summary>
    public void ScanBackward(Lane lane)
    {
        for (int segment = plan.Segments - 2; segment > 0; segment--)
        {
            AddTransition(lane with { Segment = segment }, Boundary(lane, segment), Boundary(lane, segment - 1), isTransposed: true);
        }
    }

    private void AddTransition(Lane lane, T* from, T* to, bool isTransposed)
    {
        T* transition = Transition(lane);
        for (int i = 0; i < sizes.KeyDim; i++)
        {
            for (int j = 0; j < sizes.KeyDim; j++)
            {
                T factor = isTransposed ? transition[(j * sizes.KeyDim) + i] : transition[(i * sizes.KeyDim) + j];
                Rows<TL, T>.AddScaled(from + (j * sizes.ValueDim), factor, to + (i * sizes.ValueDim), lane.Columns);
            }
        }
    }
}
