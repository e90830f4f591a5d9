using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>Cases of <see cref="GatedRmsNorm"/>.</summary>
public sealed class GatedRmsNormCases : IOperatorCases
{
    /// <inheritdoc/>
    public static IEnumerable<OperatorCase> Cases => [.. Of(GatePlacement.AfterNorm), .. Of(GatePlacement.BeforeNorm)];

    private static IEnumerable<OperatorCase> Of(GatePlacement placement) =>
    [
        // Gradients of two applications to one element may nearly cancel, their roundings do not.
        Of(placement, "one element", [1], scale: 1e-3) with { BFloat16GradientTolerance = 3e-2 },
        Of(placement, "odd sizes", [2, 3, 7]),
        Of(placement, "63 features", [5, 63]),
        Of(placement, "65 features, many rows", [600, 65]),
        Of(placement, "heads of 100", [2, 9, 3, 100]),
        Of(placement, "no rows", [0, 8]),
        Of(placement, "rows of zeros", [3, 33], CaseValues.Constant, 0),
        Of(placement, "large values", [4, 129], scale: 1e6),
        Of(placement, "values near the root of epsilon", [4, 129], scale: 1e-3),
        Of(placement, "wide gates", [4, 129], gateScale: 30),
        Of(placement, "heads of 128", [3, 9, 128]),
        Of(placement, "128 features, many rows", [700, 128]),
        Of(placement, "520 features, many rows", [80, 520]),
        Of(placement, "several warps to a row", [3, 1040]),
        Of(placement, "a block to a row", [2, 4104]),
        Of(placement, "per head", [2048, 8, 128]) with { IsBenchmark = true, ForwardBytes = 3.0 * 4 * 2048 * 1024, BackwardBytes = 5.0 * 4 * 2048 * 1024, ForwardFlops = 25.0 * 2048 * 1024 },
    ];

    private static OperatorCase Of(
        GatePlacement placement, string name, Shape shape, CaseValues values = CaseValues.Normal, double scale = 1, double gateScale = 1)
        => new(
            "GatedRmsNorm",
            $"{placement}, {name}",
            [new("x", shape, values, scale), new("gate", shape, Scale: gateScale), new("weight", [shape[^1]])],
            inputs => [GatedRmsNorm.Apply(inputs[0], inputs[1], inputs[2], placement)],
            inputs => [GatedRmsNorm.Reference(inputs[0], inputs[1], inputs[2], placement, 1e-6f)],
            (inputs, gradients) =>
            {
                (double[] x, double[] gate, double[] weight) = GatedRmsNorm.ReferenceGradient(inputs[0], inputs[1], inputs[2], placement, 1e-6f, gradients[0]);
                return [x, gate, weight];
            })
        {
            ForwardTolerance = 5e-7,
            GradientTolerance = 1e-6,
        };
}
