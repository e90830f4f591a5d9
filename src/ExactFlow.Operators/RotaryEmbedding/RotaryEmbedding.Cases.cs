namespace ExactFlow.Operators;

/// <summary>The shapes, positions and packings that <see cref="RotaryEmbedding"/> is tested and timed at.</summary>
public sealed class RotaryEmbeddingCases : IOperatorCases
{
    /// <inheritdoc/>
    public static IEnumerable<OperatorCase> Cases =>
    [
        Case("one token", 1, 1, 1, 2),
        Case("one token far along, as in decoding", 2, 1, 3, 64, position: 100_003),
        Case("odd everywhere", 3, 7, 5, 6),
        Case("around a block of positions", 2, 65, 1, 34),
        Case("several blocks from the middle", 1, 130, 2, 16, position: 63),
        Case("another base", 1, 100, 2, 8, theta: 500_000),
        Case("packed documents, empty and of one token among them", 1, 80, 2, 10, offsets: [0, 1, 1, 70, 79, 80]),
        Case("packed documents from a position", 1, 7, 3, 4, position: 5, offsets: [0, 3, 7]),
        Case("no tokens", 2, 0, 3, 4),
        Case("a layer of a small model", 2, 256, 4, 64) with { IsBenchmark = true },
    ];

    private static OperatorCase Case(string name, int batch, int time, int heads, int dim, int position = 0, float theta = 10000, int[]? offsets = null)
    {
        SequenceOffsets? documents = offsets is null ? null : new SequenceOffsets(offsets);
        int[] positions = Positions(batch, time, position, offsets);
        double count = (double)batch * time * heads * dim;
        return new OperatorCase(
            "RotaryEmbedding",
            name,
            [new("x", [batch, time, heads, dim])],
            t => [RotaryEmbedding.Apply(t[0], position, theta, documents)],
            v => [RotaryEmbedding.Reference(v[0], positions, heads, dim, theta)],
            (_, g) => [RotaryEmbedding.Reference(g[0], positions, heads, dim, theta, sign: -1)])
        {
            // The offsets of documents are copied to a GPU in the call.
            CanBeCaptured = offsets is null,
            ForwardFlops = 3 * count,
            ForwardBytes = 2 * sizeof(float) * count,
        };
    }

    private static int[] Positions(int batch, int time, int position, int[]? offsets)
    {
        var positions = new int[batch * time];
        for (int i = 0; i < positions.Length; i++)
        {
            int start = offsets?.Last(o => o <= i) ?? i / time * time;
            positions[i] = position + i - start;
        }

        return positions;
    }
}
