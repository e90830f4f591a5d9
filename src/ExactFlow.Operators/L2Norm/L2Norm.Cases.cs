using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>Cases of <see cref="L2Norm"/>.</summary>
public sealed class L2NormCases : IOperatorCases
{
    /// <inheritdoc/>
    public static IEnumerable<OperatorCase> Cases =>
    [
        // A row of one element has only its sign as output: the gradient x^2 r^3 - r cancels, so x is of the size of epsilon's root.
        Of("one element", [1], scale: 1e-3),
        Of("odd sizes", [2, 3, 7]),
        Of("63 features", [5, 63]),
        Of("65 features, many rows", [700, 65]),
        Of("heads of 100", [2, 9, 3, 100]),
        Of("no rows", [3, 0, 8]),
        Of("rows of zeros", [3, 33], CaseValues.Constant, 0),
        Of("keys of length 60 and more", [4, 129], scale: 6),
        Of("keys near the root of epsilon", [4, 129], scale: 1e-4),
        Of("without epsilon", [4, 31], epsilon: 0),
        Of("heads of 128", [3, 9, 128]),
        Of("queries of a 340M model", [2048, 8, 128]) with { IsBenchmark = true, ForwardBytes = 2.0 * 4 * 2048 * 1024, BackwardBytes = 3.0 * 4 * 2048 * 1024, ForwardFlops = 3.0 * 2048 * 1024 },
    ];

    private static OperatorCase Of(string name, Shape shape, CaseValues values = CaseValues.Normal, double scale = 1, float epsilon = 1e-6f)
        => new(
            "L2Norm",
            name,
            [new("x", shape, values, scale)],
            inputs => [L2Norm.Apply(inputs[0], epsilon)],
            inputs => [L2Norm.Reference(inputs[0], shape[^1], epsilon)],
            (inputs, gradients) => [L2Norm.ReferenceGradient(inputs[0], shape[^1], epsilon, gradients[0])])
        {
            ForwardTolerance = 3e-7,
            GradientTolerance = 5e-7,
        };
}
