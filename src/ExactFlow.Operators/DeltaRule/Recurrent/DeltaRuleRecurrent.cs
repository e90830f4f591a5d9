using System.Numerics;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Memory;
using ExactFlow.Tensors.Parallel;

namespace ExactFlow.Operators;

/// <summary>The recurrent form: lanes over the workers, each with its own <see cref="RecurrentWorkspace{T}"/>.</summary>
/// <typeparam name="TL">Vector registers.</typeparam>
/// <typeparam name="T">float or double.</typeparam>
internal static unsafe class DeltaRuleRecurrent<TL, T>
    where TL : struct, ILanes<TL, T>
    where T : unmanaged, IFloatingPointIeee754<T>
{
    public static void Forward(CpuDevice device, in DeltaRuleCall<T> call)
    {
        LanePlan plan = LanePlan.For(call, device.Workers, mayUseSegments: false);
        long bytes = RecurrentWorkspace<T>.Bytes(MostTokens(call), call.Sizes.KeyDim, plan.SliceColumns, backward: false);
        using var scratch = new Scratch(device, bytes * device.Workers.WorkerCount);
        device.Workers.For(plan.Count, new Body(call, plan, (byte*)scratch.Address, bytes, sums: null));
    }

    /// <summary>Needs <see cref="DeltaRuleCall{T}.ChunkStates"/> of a forward pass.</summary>
    public static void Backward(CpuDevice device, in DeltaRuleCall<T> call)
    {
        LanePlan plan = LanePlan.For(call, device.Workers, mayUseSegments: false);
        long bytes = RecurrentWorkspace<T>.Bytes(MostTokens(call), call.Sizes.KeyDim, plan.SliceColumns, backward: true);
        using var scratch = new Scratch(device, bytes * device.Workers.WorkerCount);
        using var sums = new PartialSums<T>(device, call, plan);
        device.Workers.For(plan.Count, new Body(call, plan, (byte*)scratch.Address, bytes, sums));
        sums.AddUp<TL>(device.Workers, call);
    }

    private static int MostTokens(in DeltaRuleCall<T> call)
        => Math.Min(call.ChunkStates == null ? RecurrentWorkspace<T>.BlockLength : call.ChunkLength, Math.Max(1, call.Sizes.Time));

    private readonly struct Body(in DeltaRuleCall<T> call, LanePlan plan, byte* scratch, long bytesPerWorker, PartialSums<T>? sums) : IParallelBody
    {
        private readonly DeltaRuleCall<T> call = call;

        public void Run(int index, int worker)
        {
            Lane lane = plan.Lane(call, index);
            RecurrentWorkspace<T> workspace = RecurrentWorkspace<T>.In(
                scratch + (worker * bytesPerWorker), MostTokens(call), call.Sizes.KeyDim, plan.SliceColumns, backward: sums is not null);
            if (sums is null)
            {
                new RecurrentKernel<TL, T>(call, workspace, lane).Forward();
            }
            else
            {
                new RecurrentKernel<TL, T>(sums.Redirect(call, lane), workspace, lane).Backward();
            }
        }
    }
}
