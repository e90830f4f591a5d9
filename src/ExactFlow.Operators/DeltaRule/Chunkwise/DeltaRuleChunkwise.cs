using System.Numerics;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Memory;
using ExactFlow.Tensors.Parallel;

namespace ExactFlow.Operators;

/// <summary>The chunkwise form: lanes over the workers, each worker with its own <see cref="Workspace{T}"/>.</summary>
/// <typeparam name="TL">Vector registers.</typeparam>
/// <typeparam name="T">float or double.</typeparam>
internal static unsafe class DeltaRuleChunkwise<TL, T>
    where TL : struct, ILanes<TL, T>
    where T : unmanaged, IFloatingPointIeee754<T>
{
    /// <summary>What is done with each lane.</summary>
    private enum Pass
    {
        CarryForward,
        ScanForward,
        Forward,
        CarryBackward,
        ScanBackward,
        Backward,
    }

    public static void Forward(CpuDevice device, in DeltaRuleCall<T> call)
    {
        LanePlan plan = LanePlan.For(call, device.Workers, mayUseSegments: true);
        using var boundaries = new Scratch(device, Segments<TL, T>.Elements(call, plan) * sizeof(T));
        using var scratch = new Scratch(device, BytesPerWorker(call, plan, backward: false) * device.Workers.WorkerCount);
        var body = new Body(call, plan, new Segments<TL, T>((T*)boundaries.Address, call, plan), (byte*)scratch.Address, sums: null);
        if (plan.Segments > 1)
        {
            Run(device, body, Pass.CarryForward);
            Run(device, body, Pass.ScanForward);
        }

        Run(device, body, Pass.Forward);
    }

    /// <summary>Needs <see cref="DeltaRuleCall{T}.ChunkStates"/> of the forward pass.</summary>
    public static void Backward(CpuDevice device, in DeltaRuleCall<T> call)
    {
        LanePlan plan = LanePlan.For(call, device.Workers, mayUseSegments: true);
        using var boundaries = new Scratch(device, Segments<TL, T>.Elements(call, plan) * sizeof(T));
        using var scratch = new Scratch(device, BytesPerWorker(call, plan, backward: true) * device.Workers.WorkerCount);
        using var sums = new PartialSums<T>(device, call, plan);
        var body = new Body(call, plan, new Segments<TL, T>((T*)boundaries.Address, call, plan), (byte*)scratch.Address, sums);
        if (plan.Segments > 1)
        {
            Run(device, body, Pass.CarryBackward);
            Run(device, body, Pass.ScanBackward);
        }

        Run(device, body, Pass.Backward);
        sums.AddUp<TL>(device.Workers, call);
    }

    private static void Run(CpuDevice device, Body body, Pass pass)
    {
        // Transitions have no slices of columns: they come after the lanes, one per head and segment.
        int transitions = pass is Pass.CarryForward or Pass.CarryBackward ? body.Plan.Heads * body.Plan.Segments : 0;
        body.Pass = pass;
        device.Workers.For(body.Plan.Count + transitions, body);
    }

    /// <summary>Transitions have keyDim columns, whatever the slices.</summary>
    private static int MostColumns(in DeltaRuleCall<T> call, LanePlan plan) => plan.Segments == 1 ? plan.SliceColumns : Math.Max(plan.SliceColumns, call.Sizes.KeyDim);

    private static int MostTokens(in DeltaRuleCall<T> call) => Math.Min(call.ChunkLength, Math.Max(1, call.Sizes.Time));

    private static long BytesPerWorker(in DeltaRuleCall<T> call, LanePlan plan, bool backward)
        => Workspace<T>.Bytes(MostTokens(call), call.Sizes.KeyDim, MostColumns(call, plan), call.Rule.Decays, backward);

    private struct Body(in DeltaRuleCall<T> call, LanePlan plan, Segments<TL, T> segments, byte* scratch, PartialSums<T>? sums) : IParallelBody
    {
        private readonly DeltaRuleCall<T> call = call;

        public Pass Pass;

        public readonly LanePlan Plan => plan;

        public readonly void Run(int index, int worker)
        {
            bool isTransition = index >= plan.Count;
            Lane lane = plan.Lane(call, isTransition ? (index - plan.Count) * plan.Slices : index);
            if (isTransition)
            {
                if (lane.Segment > 0 && lane.Segment < plan.Segments - 1)
                {
                    lane = lane with { FirstColumn = 0, Columns = call.Sizes.KeyDim };
                    new ChunkKernel<TL, T>(call, WorkspaceOf(worker), lane).Transition(segments.Transition(lane));
                }

                return;
            }

            long state = call.StateOffset(lane.Sequence, lane.Head) + lane.FirstColumn;
            switch (Pass)
            {
                case Pass.CarryForward when lane.Segment < plan.Segments - 1:
                    Kernel(lane, worker).CarryForward(lane.Segment == 0 ? At(call.InitialState, state) : null, segments.Boundary(lane, lane.Segment + 1));
                    break;
                case Pass.CarryBackward when lane.Segment > 0:
                    Kernel(lane, worker).CarryBackward(IsLast(lane) ? At(call.GradFinalState, state) : null, segments.Boundary(lane, lane.Segment - 1));
                    break;
                case Pass.ScanForward when lane.Segment == 0:
                    segments.ScanForward(lane);
                    break;
                case Pass.ScanBackward when lane.Segment == 0:
                    segments.ScanBackward(lane);
                    break;
                case Pass.Forward:
                    Kernel(lane, worker).Forward(
                        lane.Segment == 0 ? At(call.InitialState, state) : segments.Boundary(lane, lane.Segment),
                        IsLast(lane) ? At(call.FinalState, state) : null);
                    break;
                case Pass.Backward:
                    Kernel(lane, worker).Backward(
                        IsLast(lane) ? At(call.GradFinalState, state) : segments.Boundary(lane, lane.Segment),
                        lane.Segment == 0 && call.GradInitialState.IsWanted
                            ? new GradientTarget<T>(call.GradInitialState.Pointer + state, call.GradInitialState.Accumulate)
                            : default);
                    break;
            }
        }

        private static T* At(T* tensor, long offset) => tensor == null ? null : tensor + offset;

        private readonly bool IsLast(Lane lane) => lane.Segment == plan.Segments - 1;

        private readonly ChunkKernel<TL, T> Kernel(Lane lane, int worker)
            => new(sums is null ? call : sums.Redirect(call, lane), WorkspaceOf(worker), lane);

        private readonly Workspace<T> WorkspaceOf(int worker)
        {
            bool backward = sums is not null;
            byte* memory = scratch + (worker * BytesPerWorker(call, plan, backward));
            return Workspace<T>.In(memory, MostTokens(call), call.Sizes.KeyDim, MostColumns(call, plan), call.Rule.Decays, backward);
        }
    }
}
