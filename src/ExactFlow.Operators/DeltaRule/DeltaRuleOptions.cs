using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>
/// How <see cref="DeltaRule.Apply"/> computes. All forms give the same numbers up to rounding. A GPU always computes chunkwise, in chunks of its own length;
/// its recurrent form is <see cref="DeltaRule.Step"/>, and it has no reference form.
/// </summary>
public enum DeltaRuleForm
{
    /// <summary>The fastest for the sizes: chunkwise, but recurrent for a few tokens.</summary>
    Auto,

    /// <summary>Token by token, forwards and backwards.</summary>
    Recurrent,

    /// <summary>Chunks of tokens as matrix products, forwards and backwards.</summary>
    Chunkwise,

    /// <summary>Token by token in float64, plain loops.</summary>
    Reference,
}

/// <summary>What <see cref="DeltaRule.Apply"/> may be told besides its inputs.</summary>
public sealed record DeltaRuleOptions
{
    /// <summary>Default options.</summary>
    public static DeltaRuleOptions Default { get; } = new();

    /// <summary>Factor on the output; the default is keyDim^-1/2.</summary>
    public float? Scale { get; init; }

    /// <summary>State before the first token, <c>[sequences, valueHeads, keyDim, valueDim]</c>; zero if absent. Sequences are the rows of the batch, or the documents of a packed row.</summary>
    public Tensor? InitialState { get; init; }

    /// <summary>Documents of a packed row (batch 1); the state restarts at each.</summary>
    public SequenceOffsets? Offsets { get; init; }

    /// <summary>Form to compute in.</summary>
    public DeltaRuleForm Form { get; init; } = DeltaRuleForm.Auto;

    /// <summary>Tokens per chunk of the chunkwise form on the CPU, 1 to 256; null for as many as a head is wide, from 32 to 64.</summary>
    public int? ChunkLength { get; init; }

    /// <summary>Whether <see cref="DeltaRuleResult.FinalState"/> is computed.</summary>
    public bool WantFinalState { get; init; }
}

/// <summary>What <see cref="DeltaRule.Apply"/> returns.</summary>
/// <param name="Output"><c>[batch, time, valueHeads, valueDim]</c>.</param>
/// <param name="FinalState"><c>[sequences, valueHeads, keyDim, valueDim]</c>, if it was wanted.</param>
public readonly record struct DeltaRuleResult(Tensor Output, Tensor? FinalState);
