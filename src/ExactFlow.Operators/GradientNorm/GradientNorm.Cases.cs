using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>The sizes that <see cref="GradientNorm"/> is tested and timed at.</summary>
public sealed class GradientNormCases : IOperatorCases
{
    /// <inheritdoc/>
    public static IEnumerable<OperatorCase> Cases =>
    [
        Case("one number", 1, [1]),
        Case("several odd sizes", 1, [1, 3, 7, 63, 65, 100]),
        Case("squares beyond float32", 1e25, [33, 5]),
        Case("squares below float32", 1e-30, [33, 5]),
        Case("an empty one", 1, [0, 3]),
        Case("several blocks, the last one short", 1, [40_001, 16_384, 2]),
        Case("a million", 1, [1 << 20]) with { IsBenchmark = true },
    ];

    private static OperatorCase Case(string name, double scale, int[] sizes)
        => new(
            "GradientNorm",
            name,
            [.. sizes.Select((size, i) => new CaseInput($"gradient{i}", [size], Scale: scale) { Differentiable = false, Role = CaseRole.Scalar })],
            Run,
            v => [[GradientNorm.Reference(v)]],
            (v, _) => new double[]?[v.Count])
        {
            CanBeCaptured = false,
            ForwardFlops = 2.0 * sizes.Sum(),
            ForwardBytes = sizeof(float) * (double)sizes.Sum(),
        };

    private static IReadOnlyList<Tensor> Run(IReadOnlyList<Tensor> gradients)
    {
        Device device = gradients[0].Device;
        var parameters = new List<Parameter>();
        try
        {
            foreach (Tensor gradient in gradients)
            {
                parameters.Add(new Parameter($"p{parameters.Count}", device.Persistent(gradient.Shape), weightDecay: false));
                parameters[^1].Value.SeedGrad(gradient);
            }

            return [device.From<float>([(float)GradientNorm.Compute(parameters)], [])];
        }
        finally
        {
            parameters.ForEach(parameter => parameter.Dispose());
        }
    }
}
