using System.Numerics;
using System.Runtime.InteropServices;

namespace ExactFlow.Operators;

/// <summary>A call copied to another precision, so that a form of that precision can run it, and its results copied back.</summary>
internal sealed unsafe class CastCall<TFrom, TTo> : IDisposable
    where TFrom : unmanaged, IFloatingPointIeee754<TFrom>
    where TTo : unmanaged, IFloatingPointIeee754<TTo>
{
    private readonly List<nint> blocks = [];

    public CastCall(in DeltaRuleCall<TFrom> call)
    {
        DeltaRuleSizes sizes = call.Sizes;
        long states = (long)call.Sequences * sizes.ValueHeads * sizes.StateSize;
        Call = new DeltaRuleCall<TTo>
        {
            Rule = call.Rule,
            Sizes = sizes,
            Scale = TTo.CreateTruncating(call.Scale),
            ChunkLength = call.ChunkLength,
            Offsets = call.Offsets,
            Query = Cast(call.Query, sizes.QueryCount),
            Key = Cast(call.Key, sizes.QueryCount),
            Value = Cast(call.Value, sizes.ValueCount),
            Beta = Cast(call.Beta, sizes.ScalarCount),
            LogDecay = Cast(call.LogDecay, sizes.ScalarCount),
            InitialState = Cast(call.InitialState, states),
            Output = call.Output == null ? null : Allocate(sizes.ValueCount),
            FinalState = call.FinalState == null ? null : Allocate(states),
            GradOutput = Cast(call.GradOutput, sizes.ValueCount),
            GradFinalState = Cast(call.GradFinalState, states),
            GradQuery = Target(call.GradQuery, sizes.QueryCount),
            GradKey = Target(call.GradKey, sizes.QueryCount),
            GradValue = Target(call.GradValue, sizes.ValueCount),
            GradBeta = Target(call.GradBeta, sizes.ScalarCount),
            GradLogDecay = Target(call.GradLogDecay, sizes.ScalarCount),
            GradInitialState = Target(call.GradInitialState, states),
        };
    }

    public DeltaRuleCall<TTo> Call { get; }

    public void CopyOutputsTo(in DeltaRuleCall<TFrom> call)
    {
        CopyBack(Call.Output, new GradientTarget<TFrom>(call.Output, accumulate: false), call.Sizes.ValueCount);
        CopyBack(Call.FinalState, new GradientTarget<TFrom>(call.FinalState, accumulate: false), (long)call.Sequences * call.Sizes.ValueHeads * call.Sizes.StateSize);
    }

    public void CopyGradientsTo(in DeltaRuleCall<TFrom> call)
    {
        CopyBack(Call.GradQuery.Pointer, call.GradQuery, call.Sizes.QueryCount);
        CopyBack(Call.GradKey.Pointer, call.GradKey, call.Sizes.QueryCount);
        CopyBack(Call.GradValue.Pointer, call.GradValue, call.Sizes.ValueCount);
        CopyBack(Call.GradBeta.Pointer, call.GradBeta, call.Sizes.ScalarCount);
        CopyBack(Call.GradLogDecay.Pointer, call.GradLogDecay, call.Sizes.ScalarCount);
        CopyBack(Call.GradInitialState.Pointer, call.GradInitialState, (long)call.Sequences * call.Sizes.ValueHeads * call.Sizes.StateSize);
    }

    public void Dispose()
    {
        foreach (nint block in blocks)
        {
            NativeMemory.Free((void*)block);
        }
    }

    private static void CopyBack(TTo* source, GradientTarget<TFrom> target, long count)
    {
        for (long i = 0; target.IsWanted && i < count; i++)
        {
            TFrom value = TFrom.CreateTruncating(source[i]);
            target.Pointer[i] = target.Accumulate ? target.Pointer[i] + value : value;
        }
    }

    private GradientTarget<TTo> Target(GradientTarget<TFrom> target, long count)
        => target.IsWanted ? new GradientTarget<TTo>(Allocate(count), accumulate: false) : default;

    private TTo* Cast(TFrom* source, long count)
    {
        if (source == null)
        {
            return null;
        }

        TTo* copy = Allocate(count);
        for (long i = 0; i < count; i++)
        {
            copy[i] = TTo.CreateTruncating(source[i]);
        }

        return copy;
    }

    private TTo* Allocate(long count)
    {
        var block = (TTo*)NativeMemory.Alloc(checked((nuint)count * (nuint)sizeof(TTo)));
        blocks.Add((nint)block);
        return block;
    }
}
