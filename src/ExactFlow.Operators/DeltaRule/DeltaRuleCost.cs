namespace ExactFlow.Operators;

/// <summary>
/// What the operator must do, for benchmarks and for shares of a machine's peak: the products of the chunkwise form, two operations per
/// multiply-add, with the four chunk-by-chunk matrices counted whole (as a unit that multiplies dense tiles executes them):
/// K S, Q S, K^T U are 6 K V per token and head; K K^T, Q K^T, the triangular system and P U are 4 C (K + V).
/// Backwards is three times that: 164 k and 490 k at K = V = 128, C = 64.
/// </summary>
public static class DeltaRuleCost
{
    /// <summary>Operations of a forward pass.</summary>
    public static double ForwardFlops(int batch, int time, int valueHeads, int keyDim, int valueDim, int chunkLength = 64)
        => (double)batch * time * valueHeads * ((6.0 * keyDim * valueDim) + (4.0 * chunkLength * (keyDim + valueDim)));

    /// <summary>Operations of a forward pass for the final state alone: K S and K^T U are 4 K V, K K^T and the triangular system 2 C (K + V).</summary>
    public static double FinalStateFlops(int batch, int time, int valueHeads, int keyDim, int valueDim, int chunkLength = 64)
        => (double)batch * time * valueHeads * ((4.0 * keyDim * valueDim) + (2.0 * chunkLength * (keyDim + valueDim)));

    /// <summary>Bytes that a forward pass for the final state alone must move in float32: k, v, beta in.</summary>
    public static double FinalStateBytes(int batch, int time, int keyHeads, int valueHeads, int keyDim, int valueDim)
        => 4.0 * batch * time * ((keyHeads * keyDim) + (valueHeads * valueDim) + valueHeads);

    /// <summary>Operations of a backward pass.</summary>
    public static double BackwardFlops(int batch, int time, int valueHeads, int keyDim, int valueDim, int chunkLength = 64)
        => 3 * ForwardFlops(batch, time, valueHeads, keyDim, valueDim, chunkLength);

    /// <summary>
    /// Operations of a forward pass with the triangular matrices counted as triangles: a stricter measure for processors, which skip the other half.
    /// </summary>
    public static double ForwardFlopsOfTriangles(int batch, int time, int valueHeads, int keyDim, int valueDim, int chunkLength = 64)
        => (double)batch * time * valueHeads * ((6.0 * keyDim * valueDim) + (2.0 * (chunkLength + 1) * (keyDim + valueDim)));

    /// <summary>Operations of the recurrence token by token: three products with the state.</summary>
    public static double RecurrentFlops(int batch, int time, int valueHeads, int keyDim, int valueDim) => (double)batch * time * valueHeads * 6 * keyDim * valueDim;

    /// <summary>Bytes that a forward pass must move in float32: q, k, v, beta in, o out.</summary>
    public static double ForwardBytes(int batch, int time, int keyHeads, int valueHeads, int keyDim, int valueDim)
        => 4.0 * batch * time * ((2.0 * keyHeads * keyDim) + (2.0 * valueHeads * valueDim) + valueHeads);
}
