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
        All("one narrow matrix", [9, 8], 8),
        All("queries, keys, values and step sizes, odd rows", [3, 43, 128], 128, 128, 128, 8),
        All("gate and up", [70, 64], 136, 136),
        All("eight matrices, one of them wider than a chunk", [63, 40], 8, 16, 72, 8, 24, 200, 64, 8),
        All("wide for narrow ones", [1, 131, 256], 136, 8, 64),
        All("many rows, few outputs", [2, 1090, 16], 8),
        All("odd widths among others", [20, 128], 4, 128, 7, 16),
        All("few rows", [8, 128], 32, 8),
        All("no rows of several", [0, 16], 8, 16),
        All("projections of a small model", [64, 127, 128], 128, 128, 128, 8) with { IsBenchmark = true },
    ];

    /// <summary>Several matrices times one input. On a GPU in bfloat16 most of these take the joint kernels; odd widths and few rows do not.</summary>
    private static OperatorCase All(string name, Tensors.Shape x, params int[] outputs)
    {
        int inputs = x[^1];
        double rows = x.RowCount();
        return new OperatorCase(
            "Linear",
            $"all: {name}",
            [new("x", x), .. outputs.Select((size, i) => new CaseInput($"weight {i}", [size, inputs], Scale: 1 / Math.Sqrt(inputs)) { Role = CaseRole.ParameterMatrix })],
            t => Linear.ApplyAll(t[0], [.. t.Skip(1)]),
            v => [.. v.Skip(1).Select(weight => Linear.Reference(v[0], weight, null, inputs))],
            (v, g) =>
            {
                var gradients = v.Skip(1).Select((weight, i) => Linear.ReferenceGradient(v[0], weight, g[i], inputs)).ToArray();
                double[] gradX = [.. v[0].Select((_, at) => gradients.Sum(gradient => gradient.X[at]))];
                return [gradX, .. gradients.Select(gradient => gradient.Weight)];
            })
        {
            ForwardFlops = 2 * rows * inputs * outputs.Sum(),
            ForwardBytes = sizeof(float) * ((rows * (inputs + outputs.Sum())) + ((double)inputs * outputs.Sum())),
        };
    }

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
