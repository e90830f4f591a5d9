using ExactFlow.Operators;
using ExactFlow.Tensors;

namespace ExactFlow.Models.Layers;

/// <summary>Runs the recurrence of a rule the right way for what is asked: all tokens, all tokens from a carried state, or one more token.</summary>
internal static class Recurrence
{
    /// <summary>Returns o [batch, time, heads, V]; updates <paramref name="state"/> when there is one.</summary>
    public static Tensor Apply(DeltaRuleKind rule, Tensor q, Tensor k, Tensor v, Tensor? beta, Tensor? logDecay, float? scale, SequenceOffsets? offsets, RecurrentState? state)
    {
        if (state is null)
        {
            return DeltaRule.Apply(rule, q, k, v, beta, logDecay, new DeltaRuleOptions { Scale = scale, Offsets = offsets }).Output;
        }

        if (q.Shape[1] == 1 && offsets is null)
        {
            return DeltaRule.Step(rule, q, k, v, beta, logDecay, state.Memory, scale);
        }

        var options = new DeltaRuleOptions { Scale = scale, Offsets = offsets, InitialState = state.Memory, WantFinalState = true };
        DeltaRuleResult result = DeltaRule.Apply(rule, q, k, v, beta, logDecay, options);
        state.Memory.CopyFrom(result.FinalState!);
        return result.Output;
    }

    /// <summary>Floating-point operations per token of the chunkwise form, forward (method: products with S, and those within a chunk of 64).</summary>
    public static double FlopsPerToken(int heads, int keyDim, int valueDim, int length)
    {
        double chunk = Math.Min(64, length);
        return heads * ((6.0 * keyDim * valueDim) + (4 * chunk * keyDim) + (4 * chunk * valueDim) + (chunk * chunk));
    }
}
