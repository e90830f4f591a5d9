namespace ExactFlow.Operators;

/// <summary>The shapes that <see cref="Linear"/> is tested and timed at.</summary>
public sealed class LinearCases : IOperatorCases
{
    /// <inheritdoc/>
    public static IEnumerable<OperatorCase> Cases =>
    [
        Case("one number", [1, 1], 1, withBias: true),
        Case("one row, as in decoding", [1, 65], 100),
        Case("one row and bias", [1, 100], 63, withBias: true),
        Case("three rows of a batch", [3, 1, 128], 7, withBias: true),
        Case("seven rows", [7, 63], 65),
        Case("odd everywhere", [2, 5, 3], 7, withBias: true),
        Case("around a tile", [65, 63], 129, withBias: true),
        Case("a hundred", [100, 100], 100),
        Case("longer than a panel", [3, 33, 700], 31, withBias: true),
        Case("no rows", [0, 8], 5, withBias: true),
        Case("projection of a small model", [2, 96, 256], 256) with { IsBenchmark = true },
        Case("one token through a wide layer", [1, 1024], 2816) with { IsBenchmark = true },
    ];

    private static OperatorCase Case(string name, Tensors.Shape x, int outputs, bool withBias = false)
    {
        int inputs = x[^1];
        double rows = x.RowCount();
        List<CaseInput> tensors = [new("x", x), new("weight", [outputs, inputs], Scale: 1 / Math.Sqrt(inputs)) { Role = CaseRole.ParameterMatrix }];
        if (withBias)
        {
            tensors.Add(new("bias", [outputs]));
        }

        return new OperatorCase(
            "Linear",
            name,
            tensors,
            t => [Linear.Apply(t[0], t[1], t.Count > 2 ? t[2] : null)],
            v => [Linear.Reference(v[0], v[1], v.Count > 2 ? v[2] : null, inputs)],
            (v, g) =>
            {
                (double[] gradX, double[] gradWeight, double[] gradBias) = Linear.ReferenceGradient(v[0], v[1], g[0], inputs);
                return withBias ? [gradX, gradWeight, gradBias] : [gradX, gradWeight];
            })
        {
            ForwardFlops = 2 * rows * inputs * outputs,
            ForwardBytes = sizeof(float) * ((rows * (inputs + outputs)) + ((double)inputs * outputs)),
        };
    }
}
