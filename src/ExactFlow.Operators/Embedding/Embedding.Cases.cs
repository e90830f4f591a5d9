using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>Cases of <see cref="Embedding"/>.</summary>
public sealed class EmbeddingCases : IOperatorCases
{
    /// <inheritdoc/>
    public static IEnumerable<OperatorCase> Cases =>
    [
        Of("one token", [1], 1, 1),
        Of("odd sizes", [2, 7], 65, 63),
        Of("every token the same", [3, 33], 5, 7, highestId: 1),
        Of("many tokens on few rows", [4, 500], 100, 3),
        Of("more rows than a block, most unused", [9], 1000, 65),
        Of("no tokens", [0], 10, 4),
        Of("several blocks of a GPU's sort, ids of two digits", [3, 900], 700, 8),
        // Float32 sums of 700 terms (in two applications): sqrt(700) 2^-24 = 1.6e-6.
        Of("few ids with many tokens each", [2, 700], 300, 5, highestId: 4) with { GradientTolerance = 2e-6 },
        Of("ids of one dimension less", [17], 31, 100),
        Of("tokens of a 340M model", [1, 2048], 32_000, 1024) with { IsBenchmark = true, ForwardBytes = 2.0 * 4 * 2048 * 1024, BackwardBytes = 4.0 * (2048 + 32_000) * 1024 },
    ];

    private static OperatorCase Of(string name, Shape ids, int vocabulary, int dimension, int? highestId = null)
        => new(
            "Embedding",
            name,
            [new("ids", ids, CaseValues.Integers, highestId ?? vocabulary), new("table", [vocabulary, dimension])],
            inputs => [Embedding.Apply(inputs[0], inputs[1])],
            inputs => [Embedding.Reference(inputs[0], inputs[1], dimension)],
            (inputs, gradients) => [null, Embedding.ReferenceGradient(inputs[0], inputs[1].Length, dimension, gradients[0])])
        {
            ForwardTolerance = 0,
            GradientTolerance = 4e-7,
        };
}
