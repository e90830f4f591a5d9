using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>Cases of <see cref="LayerNorm"/>.</summary>
public sealed class LayerNormCases : IOperatorCases
{
    /// <inheritdoc/>
    public static IEnumerable<OperatorCase> Cases =>
    [
        Of("one element: the output is the bias", [1]),
        Of("odd sizes", [2, 3, 7]),
        Of("63 features", [5, 63]),
        Of("65 features, many rows", [1000, 65]),
        Of("100 features", [2, 9, 100]),
        Of("no rows", [0, 8]),
        Of("constant rows", [3, 33], CaseValues.Constant, 1),
        Of("large values", [4, 129], scale: 1e6),
        Of("values near the root of epsilon", [4, 129], scale: 3e-3),
        Of("all of one sign", [7, 65], CaseValues.Uniform, 4),
        Of("without epsilon", [4, 31], epsilon: 0),
        Of("128 features", [9, 128]),
        Of("128 features, many rows", [700, 128]),
        Of("256 features, many rows", [600, 256]),
        Of("16 features, rows that do not fill a turn", [130, 16]),
        Of("24 features: threads without a piece", [70, 24]),
        Of("128 features, more rows than are few", [4099, 128]),
        Of("520 features, many rows", [80, 520]),
        Of("several warps to a row", [3, 1040]),
        Of("a block to a row", [2, 4104], CaseValues.Uniform, 3),
        Of("hidden of 1024", [2048, 1024]) with { IsBenchmark = true, ForwardBytes = 2.0 * 4 * 2048 * 1024, BackwardBytes = 3.0 * 4 * 2048 * 1024, ForwardFlops = 8.0 * 2048 * 1024 },
    ];

    private static OperatorCase Of(string name, Shape shape, CaseValues values = CaseValues.Normal, double scale = 1, float epsilon = 1e-5f)
        => new(
            "LayerNorm",
            name,
            [new("x", shape, values, scale), new("weight", [shape[^1]]), new("bias", [shape[^1]])],
            inputs => [LayerNorm.Apply(inputs[0], inputs[1], inputs[2], epsilon)],
            inputs => [LayerNorm.Reference(inputs[0], inputs[1], inputs[2], epsilon)],
            (inputs, gradients) =>
            {
                (double[] x, double[] weight, double[] bias) = LayerNorm.ReferenceGradient(inputs[0], inputs[1], epsilon, gradients[0]);
                return [x, weight, bias];
            })
        {
            ForwardTolerance = 5e-7,
            GradientTolerance = 1e-6,
        };
}
