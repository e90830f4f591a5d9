using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>Checks of the operator's inputs, each with a sentence that names the argument and both shapes.</summary>
internal static class DeltaRuleShapes
{
    public const int MaxChunkLength = 256;

    /// <summary>The least and the most tokens of a chunk whose length is left to us.</summary>
    private const int LeastChosen = 32, MostChosen = 64;

    /// <summary>
    /// The chunk length where none is asked for. Triangles of a chunk cost <c>4 C (K + V)</c> a token beside <c>6 K V</c> for the state: a chunk about as long as
    /// a head is wide keeps both alike. A shorter one than 32 tokens gains no time worth the memory of its states.
    /// </summary>
    public static int ChunkLength(in DeltaRuleSizes sizes) => Math.Clamp((Math.Max(sizes.KeyDim, sizes.ValueDim) + LeastChosen - 1) / LeastChosen * LeastChosen, LeastChosen, MostChosen);

    public static DeltaRuleSizes Check(DeltaRuleKind rule, Tensor q, Tensor k, Tensor v, Tensor? beta, Tensor? logDecay, DeltaRuleOptions options)
        => Check(rule, q, k, v, beta, logDecay, options.Offsets, options.InitialState, options.ChunkLength ?? MostChosen);

    public static DeltaRuleSizes Check(
        DeltaRuleKind rule, Tensor q, Tensor k, Tensor v, Tensor? beta, Tensor? logDecay, SequenceOffsets? offsets, Tensor? state, int chunkLength)
    {
        ArgumentNullException.ThrowIfNull(q);
        ArgumentNullException.ThrowIfNull(k);
        ArgumentNullException.ThrowIfNull(v);
        RequireFloat32(q, "q");
        RequireFloat32(k, "k");
        RequireFloat32(v, "v");
        DeltaRuleSizes sizes = Check(rule, q.Shape, k.Shape, v.Shape, beta?.Shape, logDecay?.Shape, offsets, state?.Shape, chunkLength);
        RequireFloat32(beta, "beta");
        RequireFloat32(logDecay, "log_decay");
        RequireFloat32(state, "the initial state");
        return sizes;
    }

    /// <summary>Checks shapes alone, for tensors and for arrays.</summary>
    /// <exception cref="InvalidInputException">They do not fit.</exception>
    public static DeltaRuleSizes Check(
        DeltaRuleKind rule, Shape q, Shape k, Shape v, Shape? beta, Shape? logDecay, SequenceOffsets? offsets, Shape? state, int chunkLength)
    {
        if (q.Rank != 4 || v.Rank != 4 || k != q)
        {
            throw Misfit($"q and k must both be [batch, time, keyHeads, keyDim] and v [batch, time, valueHeads, valueDim], but q is {q}, k is {k} and v is {v}.");
        }

        var sizes = new DeltaRuleSizes(q[0], q[1], q[2], v[2], q[3], v[3]);
        if (v[0] != sizes.Batch || v[1] != sizes.Time)
        {
            throw Misfit($"v must have the batch and time of q, but v is {v} and q is {q}.");
        }

        if (sizes.KeyHeads == 0 || sizes.KeyDim == 0 || sizes.ValueDim == 0 || sizes.ValueHeads == 0 || sizes.ValueHeads % sizes.KeyHeads != 0)
        {
            throw Misfit($"the heads of v must be a multiple of those of q and k and no size zero, but v is {v} and q is {q}.");
        }

        Shape scalars = [sizes.Batch, sizes.Time, sizes.ValueHeads];
        RequireScalars(rule, "beta", beta, scalars, rule.UsesBeta);
        RequireScalars(rule, "log_decay", logDecay, scalars, rule.Decays);
        if (offsets is not null && (sizes.Batch != 1 || offsets.TotalLength != sizes.Time))
        {
            throw Misfit($"packed documents need batch 1 and offsets that end at the row's length, but q is {q} and the offsets end at {offsets.TotalLength}.");
        }

        if (state is { } given && given != State(sizes, offsets))
        {
            throw Misfit($"the state must be [sequences, valueHeads, keyDim, valueDim] = {State(sizes, offsets)}, but it is {given}.");
        }

        if (chunkLength is < 1 or > MaxChunkLength)
        {
            throw Misfit($"the chunk length must be 1 to {MaxChunkLength}, but it is {chunkLength}.");
        }

        return sizes;
    }

    public static Shape State(DeltaRuleSizes sizes, SequenceOffsets? offsets) => [offsets?.Count ?? sizes.Batch, sizes.ValueHeads, sizes.KeyDim, sizes.ValueDim];

    private static void RequireScalars(DeltaRuleKind rule, string name, Shape? given, Shape expected, bool isUsed)
    {
        if (given is null && isUsed)
        {
            throw Misfit($"the rule {rule.Name} reads {name}, but none was given; pass one of shape {expected}.");
        }

        if (given is { } shape && shape != expected)
        {
            throw Misfit($"{name} must be [batch, time, valueHeads] = {expected}, but it is {shape}.");
        }
    }

    private static void RequireFloat32(Tensor? tensor, string name)
    {
        if (tensor is not null && tensor.DType != DType.Float32)
        {
            throw Misfit($"{name} must be float32, but it is {tensor.DType}; convert it first.");
        }
    }

    private static InvalidInputException Misfit(string what) => new("The delta rule cannot run: " + what);
}
