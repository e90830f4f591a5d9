using System.Numerics;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Memory;
using ExactFlow.Tensors.Parallel;

namespace ExactFlow.Operators;

/// <summary>The chunkwise form: lanes over the workers, each with its own <see cref="Workspace{T}"/>.</summary>
/// <typeparam name="TL">Vector registers.</typeparam>
/// <typeparam name="T">float or double.</typeparam>
internal static unsafe class DeltaRuleChunkwise<TL, T>
    where TL : struct, ILanes<TL, T>
    where T : unmanaged, IFloatingPointIeee754<T>
{
    public static void Forward(CpuDevice device, in DeltaRuleCall<T> call)
    {
        LanePlan plan = LanePlan.For(call, device.Workers);
        long bytes = WorkspaceBytes(call, plan, backward: false);
        using var scratch = new Scratch(device, bytes * device.Workers.WorkerCount);
        device.Workers.For(plan.Count, new Body(call, plan, (byte*)scratch.Address, bytes, isBackward: false));
    }

    /// <summary>Needs <see cref="DeltaRuleCall{T}.ChunkStates"/> of the forward pass.</summary>
    public static void Backward(CpuDevice device, in DeltaRuleCall<T> call)
    {
        LanePlan plan = LanePlan.For(call, device.Workers);
        long bytes = WorkspaceBytes(call, plan, backward: true);
        using var scratch = new Scratch(device, bytes * device.Workers.WorkerCount);
        using var sums = new PartialSums<T>(device, call, plan);
        device.Workers.For(plan.Count, new Body(call, plan, (byte*)scratch.Address, bytes, isBackward: true) { Sums = sums });
        sums.AddUp<TL>(device.Workers, call);
    }

    private static long WorkspaceBytes(in DeltaRuleCall<T> call, LanePlan plan, bool backward)
        => Workspace<T>.Bytes(MostTokens(call), call.Sizes.KeyDim, plan.SliceColumns, call.Rule.Decays, backward);

    private static int MostTokens(in DeltaRuleCall<T> call) => Math.Min(call.ChunkLength, Math.Max(1, call.Sizes.Time));

    private struct Body(in DeltaRuleCall<T> call, LanePlan plan, byte* scratch, long bytesPerWorker, bool isBackward) : IParallelBody
    {
        private readonly DeltaRuleCall<T> call = call;

        public PartialSums<T>? Sums { get; init; }

        public readonly void Run(int index, int worker)
        {
            Lane lane = plan[index];
            Workspace<T> workspace = Workspace<T>.In(
                scratch + (worker * bytesPerWorker), MostTokens(call), call.Sizes.KeyDim, plan.SliceColumns, call.Rule.Decays, isBackward);
            if (isBackward)
            {
                new ChunkKernel<TL, T>(Sums!.Redirect(call, lane), workspace, lane).Backward();
            }
            else
            {
                new ChunkKernel<TL, T>(call, workspace, lane).Forward();
            }
        }
    }
}
