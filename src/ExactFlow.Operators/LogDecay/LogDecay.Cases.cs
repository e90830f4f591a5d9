using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>Cases of <see cref="LogDecay"/>.</summary>
public sealed class LogDecayCases : IOperatorCases
{
    /// <inheritdoc/>
    public static IEnumerable<OperatorCase> Cases =>
    [
        Of("one token, one head", [1, 1, 1]),
        Of("one head", [2, 63, 1]),
        Of("three heads", [3, 65, 3]),
        Of("seven heads, many tokens", [5, 801, 7]),
        Of("more heads than lanes", [2, 9, 37]),
        Of("no tokens", [0, 4]),
        Of("wide inputs: decays near 1 and near 0", [4, 33, 5], scale: 30),
        Of("8 heads", [8, 2048, 8]) with { IsBenchmark = true, ForwardBytes = 2.0 * 4 * 8 * 2048 * 8, BackwardBytes = 3.0 * 4 * 8 * 2048 * 8, ForwardFlops = 40.0 * 8 * 2048 * 8 },
    ];

    private static OperatorCase Of(string name, Shape shape, double scale = 1)
        => new(
            "LogDecay",
            name,
            [new("a", shape, Scale: scale), new("aLog", [shape[^1]]), new("dtBias", [shape[^1]], CaseValues.Negative, 6)],
            inputs => [LogDecay.Apply(inputs[0], inputs[1], inputs[2])],
            inputs => [LogDecay.Reference(inputs[0], inputs[1], inputs[2])],
            (inputs, gradients) =>
            {
                (double[] a, double[] aLog, double[] dtBias) = LogDecay.ReferenceGradient(inputs[0], inputs[1], inputs[2], gradients[0]);
                return [a, aLog, dtBias];
            })
        {
            // The rounding of a + dt_bias, relative to a result that is small where the sum is large and negative, is the largest part.
            ForwardTolerance = 1e-6,
            GradientTolerance = 2e-6,
        };
}
