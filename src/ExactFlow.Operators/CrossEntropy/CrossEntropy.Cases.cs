namespace ExactFlow.Operators;

/// <summary>The shapes and edge values that <see cref="CrossEntropy"/> is tested and timed at.</summary>
public sealed class CrossEntropyCases : IOperatorCases
{
    /// <inheritdoc/>
    public static IEnumerable<OperatorCase> Cases =>
    [
        Case("one token, one word", 1, 1, 1),
        Case("one token", 1, 7, 101),
        Case("odd everywhere", 7, 3, 5),
        Case("around a vector", 63, 65, 17),
        Case("some targets ignored", 65, 33, 100, ignoreEvery: 3),
        Case("more words than fit a warp, some targets ignored", 9, 8, 300, ignoreEvery: 3),
        Case("all targets ignored", 5, 8, 11, ignoreEvery: 1),
        Case("another ignore index", 9, 16, 13, ignoreEvery: 2, ignoreIndex: -1),
        Case("ignored index inside the vocabulary", 9, 16, 13, ignoreEvery: 2, ignoreIndex: 0),
        Case("several blocks of tokens, the last one short", 1030, 5, 7),
        Case("more tokens than a block of a GPU", 4099, 3, 5),
        // Float32 sums over 70,001 words: each partial sum rounds by up to 2^-24 of the target's term, which outweighs the others.
        Case("many words", 3, 5, 70_001) with { GradientTolerance = 2e-5 },
        Case("logits of 1e4, a winner takes all", 31, 100, 129, scale: 1e4),
        Case("wide head", 192, 128, 1031) with { IsBenchmark = true },
        PerToken("per token, some ignored", 65, 33, 1001, ignoreEvery: 4),
        PerToken("per token, logits of 1e4", 7, 64, 63, scale: 1e4),
    ];

    private static CaseInput[] Inputs(int tokens, int dim, int vocabulary, int ignoreEvery, int ignoreIndex, double scale, bool differentiable)
        =>
        [
            new("hidden", [tokens, dim], Scale: scale) { Differentiable = differentiable },
            new("headWeight", [vocabulary, dim], Scale: 1 / Math.Sqrt(dim)) { Differentiable = differentiable },
            new("targets", [tokens], CaseValues.Integers, vocabulary) { Explicit = Targets(tokens, vocabulary, ignoreEvery, ignoreIndex) },
        ];

    private static double[] Targets(int tokens, int vocabulary, int ignoreEvery, int ignoreIndex)
    {
        var random = new Tensors.Randomness.Philox(42, Tensors.Randomness.Philox.StreamOf("targets"));
        var targets = new double[tokens];
        for (int i = 0; i < tokens; i++)
        {
            targets[i] = ignoreEvery > 0 && i % ignoreEvery == 0 ? ignoreIndex : random.Below((ulong)i, vocabulary);
        }

        return targets;
    }

    private static OperatorCase Case(
        string name, int tokens, int dim, int vocabulary, int ignoreEvery = 0, int ignoreIndex = CrossEntropy.DefaultIgnoreIndex, double scale = 1)
        => new(
            "CrossEntropy",
            name,
            Inputs(tokens, dim, vocabulary, ignoreEvery, ignoreIndex, scale, differentiable: true),
            t => [CrossEntropy.Apply(t[0], t[1], t[2], ignoreIndex)],
            v => [[CrossEntropy.Reference(v[0], v[1], v[2], dim, ignoreIndex)]],
            (v, g) =>
            {
                (double[] gradHidden, double[] gradWeight) = CrossEntropy.ReferenceGradient(v[0], v[1], v[2], dim, g[0][0], ignoreIndex);
                return [gradHidden, gradWeight, null];
            })
        {
            ForwardFlops = 2.0 * tokens * dim * vocabulary,
            ForwardBytes = sizeof(float) * (((double)tokens + vocabulary) * dim),
        };

    private static OperatorCase PerToken(string name, int tokens, int dim, int vocabulary, int ignoreEvery = 0, double scale = 1)
        => new(
            "CrossEntropy",
            name,
            Inputs(tokens, dim, vocabulary, ignoreEvery, CrossEntropy.DefaultIgnoreIndex, scale, differentiable: false),
            t => [CrossEntropy.PerToken(t[0], t[1], t[2])],
            v => [CrossEntropy.ReferencePerToken(v[0], v[1], v[2], dim)],
            (_, _) => [null, null, null]);
}
