namespace ExactFlow.Operators;

/// <summary>The shapes, packings and edge values that <see cref="SoftmaxAttention"/> is tested and timed at.</summary>
public sealed class SoftmaxAttentionCases : IOperatorCases
{
    /// <inheritdoc/>
    public static IEnumerable<OperatorCase> Cases =>
    [
        Case("one token", 2, 1, 3, 3, 8, 8),
        Case("odd everywhere", 3, 7, 1, 1, 5, 3),
        Case("one token short of a tile", 1, 63, 2, 2, 16, 16),
        Case("exactly a tile", 1, 64, 2, 1, 32, 32),
        Case("one token past a tile", 2, 65, 2, 2, 7, 9),
        Case("fewer key and value heads", 1, 100, 6, 2, 16, 24),
        Case("three tiles, the last one short", 1, 130, 1, 1, 33, 17),
        Case("given scale", 1, 65, 1, 1, 8, 8, scale: 0.5f),
        Case("packed documents, empty and of one token among them", 1, 140, 4, 2, 12, 12, offsets: [0, 1, 1, 66, 75, 140]),
        Case("scores of 1e3", 1, 70, 2, 2, 64, 16, inputScale: 10) with { ForwardTolerance = 1e-4, GradientTolerance = 2e-4 },
        Case("heads of 64, three tiles of a GPU, grouped", 2, 161, 4, 2, 64, 64),
        Case("heads of 128, grouped and packed", 1, 190, 3, 1, 128, 128, offsets: [0, 1, 1, 100, 165, 190]),
        Case("wide heads, keys and values of different widths", 1, 50, 1, 1, 130, 255),
        Case("no tokens", 1, 0, 2, 2, 4, 4),
        Case("a layer of a small model", 1, 256, 4, 4, 64, 64) with { IsBenchmark = true },
        Decode("decode, cache of one", 2, 5, 1, 4, 2, 16, 16),
        Decode("decode, part of a cache", 3, 200, 131, 6, 3, 33, 20),
        Decode("decode, heads of 128, grouped", 1, 500, 333, 10, 2, 128, 128),
        Decode("decode, widest heads", 2, 40, 33, 2, 2, 256, 256),
        Decode("decode, full cache", 1, 1000, 1000, 2, 2, 64, 64),
    ];

    private static OperatorCase Case(
        string name, int batch, int time, int heads, int kvHeads, int dim, int valueDim, float? scale = null, int[]? offsets = null, double inputScale = 1)
    {
        var sizes = new SoftmaxAttention.Sizes(batch, time, heads, kvHeads, dim, valueDim, scale ?? (1 / Math.Sqrt(dim)), offsets, time);
        SequenceOffsets? documents = offsets is null ? null : new SequenceOffsets(offsets);
        return new OperatorCase(
            "SoftmaxAttention",
            name,
            [
                new("q", [batch, time, heads, dim], Scale: inputScale),
                new("k", [batch, time, kvHeads, dim], Scale: inputScale),
                new("v", [batch, time, kvHeads, valueDim]),
            ],
            t => [SoftmaxAttention.Apply(t[0], t[1], t[2], scale, documents)],
            v => [SoftmaxAttention.Reference(v[0], v[1], v[2], sizes)],
            (v, g) =>
            {
                (double[] gradQ, double[] gradK, double[] gradV) = SoftmaxAttention.ReferenceGradient(v[0], v[1], v[2], g[0], sizes);
                return [gradQ, gradK, gradV];
            })
        {
            CanBeCaptured = offsets is null,
            ForwardFlops = (double)batch * heads * time * (time + 1) * (dim + valueDim),
            ForwardBytes = sizeof(float) * (double)batch * time * (heads + kvHeads) * (dim + valueDim),
        };
    }

    /// <summary>Only part of the cache is in use; the rest holds numbers that must not be read.</summary>
    private static OperatorCase Decode(string name, int batch, int capacity, int length, int heads, int kvHeads, int dim, int valueDim)
    {
        var sizes = new SoftmaxAttention.Sizes(batch, length, heads, kvHeads, dim, valueDim, 1 / Math.Sqrt(dim), null, Queries: 1);
        double[] Used(double[] cache, int width)
        {
            int row = kvHeads * width;
            return [.. Enumerable.Range(0, batch).SelectMany(b => cache.AsSpan(b * capacity * row, length * row).ToArray())];
        }

        return new OperatorCase(
            "SoftmaxAttention",
            name,
            [
                new("q", [batch, 1, heads, dim]) { Differentiable = false },
                new("keyCache", [batch, capacity, kvHeads, dim]) { Differentiable = false },
                new("valueCache", [batch, capacity, kvHeads, valueDim]) { Differentiable = false },
            ],
            t => [SoftmaxAttention.Decode(t[0], t[1], t[2], length)],
            v => [SoftmaxAttention.Reference(v[0], Used(v[1], dim), Used(v[2], valueDim), sizes)],
            (_, _) => [null, null, null])
        {
            ForwardFlops = 2.0 * batch * heads * length * (dim + valueDim),
            ForwardBytes = sizeof(float) * (double)batch * length * kvHeads * (dim + valueDim),
        };
    }
}
