using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>Cases of <see cref="RmsNorm"/>.</summary>
public sealed class RmsNormCases : IOperatorCases
{
    /// <inheritdoc/>
    public static IEnumerable<OperatorCase> Cases =>
    [
        // A row of one element has only its sign as output: the gradient cancels, so x is of the size of epsilon's root.
        Of("one element", [1], scale: 3e-4),
        Of("odd sizes", [2, 3, 7]),
        Of("63 features", [5, 63]),
        Of("65 features, many rows", [1000, 65]),
        Of("heads of 100", [2, 9, 3, 100]),
        Of("no rows", [0, 8]),
        Of("rows of zeros", [3, 33], CaseValues.Constant, 0),
        Of("large values", [4, 129], scale: 1e6),
        Of("values near the root of epsilon", [4, 129], scale: 1e-3),
        Of("without epsilon", [4, 31], epsilon: 0),
        Of("hidden of a 340M model", [2048, 1024]) with { IsBenchmark = true, ForwardBytes = 2.0 * 4 * 2048 * 1024, BackwardBytes = 3.0 * 4 * 2048 * 1024, ForwardFlops = 4.0 * 2048 * 1024 },
        Of("heads of 128", [3, 9, 128]),
        Of("128 features, many rows", [700, 128]),
        Of("256 features, many rows", [600, 256]),
        Of("heads of 16", [50, 3, 16]),
        Of("24 features: threads without a piece", [70, 24]),
        Of("128 features, more rows than are few", [2100, 128]),
        Of("520 features, many rows", [80, 520]),
        Of("several warps to a row", [3, 1040]),
        Of("a block to a row", [2, 4104]),
        AfterAdd("one element", [1], 3e-4),
        AfterAdd("odd sizes", [2, 3, 7]),
        AfterAdd("65 features, many rows", [300, 65]),
        AfterAdd("128 features", [9, 128]),
        AfterAdd("512 features, many rows", [40, 512]),
        AfterAdd("several warps to a row", [3, 1040]),
        AfterAdd("no rows", [0, 8]),
        AfterAdd("hidden of a 340M model", [2048, 1024]) with { IsBenchmark = true, ForwardBytes = 4.0 * 4 * 2048 * 1024, BackwardBytes = 4.0 * 4 * 2048 * 1024, ForwardFlops = 5.0 * 2048 * 1024 },
        Projected("odd sizes", [2, 3, 7], [5, 1, 3]),
        Projected("65 features, many rows", [150, 65], [9]),
        Projected("128 features", [9, 128], [64, 8, 8]),
        Projected("several warps to a row", [3, 1040], [24, 16]),
        Projected("no rows", [0, 8], [3, 5]),
        Projected("a norm alone", [37, 64], [16, 8], afterAdd: false),
        Of("per head", [2048, 8, 128]) with { IsBenchmark = true, ForwardBytes = 2.0 * 4 * 2048 * 1024, BackwardBytes = 3.0 * 4 * 2048 * 1024, ForwardFlops = 4.0 * 2048 * 1024 },
    ];

    private static OperatorCase Of(string name, Shape shape, CaseValues values = CaseValues.Normal, double scale = 1, float epsilon = 1e-6f)
        => new(
            "RmsNorm",
            name,
            [new("x", shape, values, scale), new("weight", [shape[^1]])],
            inputs => [RmsNorm.Apply(inputs[0], inputs[1], epsilon)],
            inputs => [RmsNorm.Reference(inputs[0], inputs[1], epsilon)],
            (inputs, gradients) =>
            {
                (double[] x, double[] weight) = RmsNorm.ReferenceGradient(inputs[0], inputs[1], epsilon, gradients[0]);
                return [x, weight];
            })
        {
            // A few roundings per element, each 6e-8.
            ForwardTolerance = 3e-7,
            GradientTolerance = 5e-7,
        };

    /// <summary>A sum, its norm and products with matrices of so many outputs each; or the norm of x alone.</summary>
    private static OperatorCase Projected(string name, Shape shape, int[] outputs, bool afterAdd = true, float epsilon = 1e-6f)
    {
        int dim = shape[^1], first = afterAdd ? 3 : 2;
        List<CaseInput> inputs = [new("x", shape)];
        if (afterAdd)
        {
            inputs.Add(new("residual", shape));
        }

        inputs.Add(new("weight", [dim]));
        inputs.AddRange(outputs.Select((count, i) => new CaseInput($"matrix {i}", [count, dim], Scale: 1 / Math.Sqrt(dim)) { Role = CaseRole.ParameterMatrix }));
        return new(
            "RmsNorm",
            $"projected, {name}",
            inputs,
            t =>
            {
                (Tensor sum, Tensor[] projected) = RmsNorm.ApplyThenProject(t[0], afterAdd ? t[1] : null, t[first - 1], [.. t.Skip(first)], epsilon);
                return afterAdd ? [sum, .. projected] : projected;
            },
            v =>
            {
                double[] sum = SumOf(v), normalized = RmsNorm.Reference(sum, v[first - 1], epsilon);
                double[][] projected = [.. v.Skip(first).Select(matrix => Linear.Reference(normalized, matrix, null, dim))];
                return afterAdd ? [sum, .. projected] : projected;
            },
            (v, g) =>
            {
                double[] sum = SumOf(v), normalized = RmsNorm.Reference(sum, v[first - 1], epsilon), ofNormalized = new double[sum.Length];
                var ofMatrices = new double[outputs.Length][];
                for (int i = 0; i < outputs.Length; i++)
                {
                    (double[] part, ofMatrices[i], _) = Linear.ReferenceGradient(normalized, v[first + i], g[g.Count - outputs.Length + i], dim);
                    ofNormalized = [.. ofNormalized.Zip(part, (a, b) => a + b)];
                }

                (double[] normed, double[] weight) = RmsNorm.ReferenceGradient(sum, v[first - 1], epsilon, ofNormalized);
                double[] total = afterAdd ? [.. normed.Zip(g[0], (a, b) => a + b)] : normed;
                return afterAdd ? [total, total, weight, .. ofMatrices] : [total, weight, .. ofMatrices];
            });

        double[] SumOf(IReadOnlyList<double[]> v) => afterAdd ? [.. v[0].Zip(v[1], (x, residual) => x + residual)] : v[0];
    }

    private static OperatorCase AfterAdd(string name, Shape shape, double scale = 1, float epsilon = 1e-6f)
        => new(
            "RmsNorm",
            $"after a sum, {name}",
            [new("x", shape, Scale: scale), new("residual", shape, Scale: scale), new("weight", [shape[^1]])],
            inputs =>
            {
                (Tensor sum, Tensor normalized) = RmsNorm.ApplyAfterAdd(inputs[0], inputs[1], inputs[2], epsilon);
                return [sum, normalized];
            },
            inputs =>
            {
                double[] sum = [.. inputs[0].Zip(inputs[1], (x, residual) => x + residual)];
                return [sum, RmsNorm.Reference(sum, inputs[2], epsilon)];
            },
            (inputs, gradients) =>
            {
                double[] sum = [.. inputs[0].Zip(inputs[1], (x, residual) => x + residual)];
                (double[] normed, double[] weight) = RmsNorm.ReferenceGradient(sum, inputs[2], epsilon, gradients[1]);
                double[] total = [.. normed.Zip(gradients[0], (a, b) => a + b)];
                return [total, total, weight];
            })
        {
            // As above, with the sum's rounding.
            ForwardTolerance = 4e-7,
            GradientTolerance = 6e-7,
        };
}
