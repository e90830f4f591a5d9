using System.Numerics;

namespace ExactFlow.Operators;

/// <summary>Extents of a call.</summary>
internal readonly record struct DeltaRuleSizes(int Batch, int Time, int KeyHeads, int ValueHeads, int KeyDim, int ValueDim)
{
    /// <summary>How many value heads share a key head.</summary>
    public int HeadsPerKey => ValueHeads / KeyHeads;

    public long QueryCount => (long)Batch * Time * KeyHeads * KeyDim;

    public long ValueCount => (long)Batch * Time * ValueHeads * ValueDim;

    public long ScalarCount => (long)Batch * Time * ValueHeads;

    public int StateSize => KeyDim * ValueDim;
}

/// <summary>Where a gradient goes: nowhere (null), over what is there, or on top of it.</summary>
internal readonly unsafe struct GradientTarget<T>(T* pointer, bool accumulate)
    where T : unmanaged, IFloatingPointIeee754<T>
{
    public readonly T* Pointer = pointer;
    public readonly bool Accumulate = accumulate;

    public bool IsWanted => Pointer != null;

    /// <summary>Writes or adds one element, if wanted.</summary>
    public void WriteScalar(long index, double value)
    {
        if (IsWanted)
        {
            Pointer[index] = (Accumulate ? Pointer[index] : T.Zero) + T.CreateTruncating(value);
        }
    }
}

/// <summary>
/// One call of the operator as all forms see it: sizes and raw pointers to tensors laid out as in <see cref="DeltaRule.Apply"/>,
/// in float or double. Pointers to absent inputs are null: no beta, no decay, zero initial state, no gradient of the final state.
/// Without queries only the final state is computed, and backwards only what acts through it.
/// </summary>
internal unsafe struct DeltaRuleCall<T>
    where T : unmanaged, IFloatingPointIeee754<T>
{
    public DeltaRuleKind Rule;
    public DeltaRuleSizes Sizes;
    public T Scale;
    public int ChunkLength;

    /// <summary>Documents of a packed row, or null: then every row of the batch is a sequence.</summary>
    public SequenceOffsets? Offsets;

    public T* Query;
    public T* Key;
    public T* Value;
    public T* Beta;
    public T* LogDecay;
    public T* InitialState;

    public T* Output;
    public T* FinalState;

    /// <summary>State before every chunk, [chunks, valueHeads, keyDim, valueDim]: written by the chunkwise forward if not null, read by its backward.</summary>
    public T* ChunkStates;

    public T* GradOutput;
    public T* GradFinalState;
    public GradientTarget<T> GradQuery;
    public GradientTarget<T> GradKey;
    public GradientTarget<T> GradValue;
    public GradientTarget<T> GradBeta;
    public GradientTarget<T> GradLogDecay;
    public GradientTarget<T> GradInitialState;

    /// <summary>Whether there are queries, and with them outputs.</summary>
    public readonly bool HasOutput => Query != null;

    /// <summary>Whether gradients are given, and the backward pass is to run.</summary>
    public readonly bool HasGradients => (HasOutput ? GradOutput : GradFinalState) != null;

    /// <summary>Independent recurrences per head.</summary>
    public readonly int Sequences => Offsets?.Count ?? Sizes.Batch;

    /// <summary>Chunks of all sequences together.</summary>
    public readonly int ChunkCount => FirstChunk(Sequences);

    /// <summary>Row of the first token of a sequence, counted over the whole batch.</summary>
    public readonly long FirstToken(int sequence) => Offsets?.Start(sequence) ?? (long)sequence * Sizes.Time;

    /// <summary>Tokens of a sequence.</summary>
    public readonly int Length(int sequence) => Offsets is null ? Sizes.Time : Offsets.End(sequence) - Offsets.Start(sequence);

    /// <summary>Chunks before a sequence; a chunk never spans two sequences.</summary>
    public readonly int FirstChunk(int sequence)
    {
        if (Offsets is null)
        {
            return sequence * ChunksOf(Sizes.Time);
        }

        int chunks = 0;
        for (int i = 0; i < sequence; i++)
        {
            chunks += ChunksOf(Length(i));
        }

        return chunks;
    }

    /// <summary>Chunks that a number of tokens takes.</summary>
    public readonly int ChunksOf(int tokens) => (tokens + ChunkLength - 1) / ChunkLength;

    /// <summary>Offset of a token's key or query, and of its value or output, and of its scalars.</summary>
    public readonly long KeyOffset(long token, int valueHead) => ((token * Sizes.KeyHeads) + (valueHead / Sizes.HeadsPerKey)) * Sizes.KeyDim;

    public readonly long ValueOffset(long token, int valueHead) => ScalarOffset(token, valueHead) * Sizes.ValueDim;

    public readonly long ScalarOffset(long token, int valueHead) => (token * Sizes.ValueHeads) + valueHead;

    /// <summary>Offset of a sequence's state.</summary>
    public readonly long StateOffset(int sequence, int valueHead) => (((long)sequence * Sizes.ValueHeads) + valueHead) * Sizes.StateSize;

    /// <summary>Step size of a token, 0 for rules without.</summary>
    public readonly double BetaAt(long scalar) => Beta == null ? 0 : double.CreateTruncating(Beta[scalar]);

    /// <summary>Log decay of a token, 0 for rules without.</summary>
    public readonly double LogDecayAt(long scalar) => LogDecay == null ? 0 : double.CreateTruncating(LogDecay[scalar]);
}
