using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>Cases of <see cref="Split"/>.</summary>
public sealed class SplitCases : IOperatorCases
{
    /// <inheritdoc/>
    public static IEnumerable<OperatorCase> Cases =>
    [
        Of("one piece", [3], 3),
        Of("single columns", [2, 3], 1, 1, 1),
        Of("odd widths", [5, 3, 175], 7, 63, 65, 33, 7),
        Of("many rows", [1500, 36], 16, 16, 3, 1),
        Of("no rows", [0, 8], 3, 5),
        Of("q, k, v and gate", [1024, 4096], 1024, 1024, 1024, 1024) with { IsBenchmark = true, ForwardBytes = 2.0 * 4 * 1024 * 4096, BackwardBytes = 2.0 * 4 * 1024 * 4096 },
    ];

    private static OperatorCase Of(string name, Shape shape, params int[] sizes)
        => new(
            "Split",
            name,
            [new("x", shape)],
            inputs => Split.Apply(inputs[0], sizes),
            inputs => Split.Reference(inputs[0], sizes),
            (_, gradients) => [Split.ReferenceGradient(gradients, sizes)])
        {
            // Copies are exact; two gradients added are rounded once.
            ForwardTolerance = 0,
            GradientTolerance = 6e-8,
        };
}
