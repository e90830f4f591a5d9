using System.Numerics;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Memory;
using ExactFlow.Tensors.Parallel;

namespace ExactFlow.Operators;

/// <summary>
/// Gradients that several lanes contribute to: those of q and k come from all value heads that share them and all slices of columns,
/// those of beta and log_decay from all slices. Each contribution gets an array of its own, and the arrays are added in a fixed order.
/// With one lane per head, which is usual, there is nothing to add and lanes write straight to the targets.
/// </summary>
internal sealed unsafe class PartialSums<T> : IDisposable
    where T : unmanaged, IFloatingPointIeee754<T>
{
    private readonly BufferPool pool;
    private readonly DeviceBuffer? buffer;
    private readonly int slices;
    private readonly int sliceColumns;
    private readonly int keyParts;
    private readonly T* query;
    private readonly T* key;
    private readonly T* beta;
    private readonly T* logDecay;

    public PartialSums(Device device, in DeltaRuleCall<T> call, LanePlan plan)
    {
        pool = device.Pool;
        slices = plan.Slices;
        sliceColumns = plan.SliceColumns;
        keyParts = slices * call.Sizes.HeadsPerKey;
        long keyCount = keyParts == 1 ? 0 : keyParts * call.Sizes.QueryCount;
        long scalarCount = slices == 1 ? 0 : slices * call.Sizes.ScalarCount;
        if (keyCount + scalarCount > 0)
        {
            buffer = pool.Rent(2 * (keyCount + scalarCount) * sizeof(T));
            query = (T*)buffer.Address;
            key = query + keyCount;
            beta = key + keyCount;
            logDecay = beta + scalarCount;
        }
    }

    /// <summary>The call with its gradient targets replaced by the lane's own arrays.</summary>
    public DeltaRuleCall<T> Redirect(in DeltaRuleCall<T> call, Lane lane)
    {
        DeltaRuleCall<T> redirected = call;
        int slice = lane.FirstColumn / sliceColumns;
        int keyPart = (lane.Head % call.Sizes.HeadsPerKey * slices) + slice;
        if (keyParts > 1)
        {
            redirected.GradQuery = Part(call.GradQuery, query, keyPart, call.Sizes.QueryCount);
            redirected.GradKey = Part(call.GradKey, key, keyPart, call.Sizes.QueryCount);
        }

        if (slices > 1)
        {
            redirected.GradBeta = Part(call.GradBeta, beta, slice, call.Sizes.ScalarCount);
            redirected.GradLogDecay = Part(call.GradLogDecay, logDecay, slice, call.Sizes.ScalarCount);
        }

        return redirected;
    }

    /// <summary>Adds the contributions up into the call's targets.</summary>
    public void AddUp<TL>(WorkerPool workers, in DeltaRuleCall<T> call)
        where TL : struct, ILanes<TL, T>
    {
        if (keyParts > 1)
        {
            AddUp<TL>(workers, call.GradQuery, query, keyParts, call.Sizes.QueryCount);
            AddUp<TL>(workers, call.GradKey, key, keyParts, call.Sizes.QueryCount);
        }

        if (slices > 1)
        {
            AddUp<TL>(workers, call.GradBeta, beta, slices, call.Sizes.ScalarCount);
            AddUp<TL>(workers, call.GradLogDecay, logDecay, slices, call.Sizes.ScalarCount);
        }
    }

    public void Dispose()
    {
        if (buffer is not null)
        {
            pool.Return(buffer);
        }
    }

    private static GradientTarget<T> Part(GradientTarget<T> target, T* parts, int part, long count)
        => target.IsWanted ? new GradientTarget<T>(parts + (part * count), accumulate: false) : default;

    private static void AddUp<TL>(WorkerPool workers, GradientTarget<T> target, T* parts, int partCount, long count)
        where TL : struct, ILanes<TL, T>
    {
        if (target.IsWanted)
        {
            workers.For(checked((int)((count + SumBody<TL>.Block - 1) / SumBody<TL>.Block)), new SumBody<TL>(target, parts, partCount, count));
        }
    }

    private readonly struct SumBody<TL>(GradientTarget<T> target, T* parts, int partCount, long count) : IParallelBody
        where TL : struct, ILanes<TL, T>
    {
        public const int Block = 4096;

        public void Run(int index, int worker)
        {
            long start = (long)index * Block;
            int length = (int)Math.Min(Block, count - start);
            Rows<TL, T>.Write(parts + start, T.One, target.Pointer + start, length, target.Accumulate);
            for (int part = 1; part < partCount; part++)
            {
                Rows<TL, T>.AddScaled(parts + (part * count) + start, T.One, target.Pointer + start, length);
            }
        }
    }
}
