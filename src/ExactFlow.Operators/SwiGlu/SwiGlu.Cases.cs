using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>Cases of <see cref="SwiGlu"/>.</summary>
public sealed class SwiGluCases : IOperatorCases
{
    /// <inheritdoc/>
    public static IEnumerable<OperatorCase> Cases =>
    [
        Of("one element", [1]),
        Of("odd sizes", [2, 3, 7]),
        Of("63 elements", [63]),
        Of("several blocks and a rest", [5, 7, 1003]),
        Of("no elements", [0, 8]),
        Of("wide gates", [9, 65], gateScale: 40),
        Of("gates of zero", [3, 33], gateScale: 0),
        Projected("projected: one element", [1, 1], 1),
        Projected("projected: odd sizes", [2, 3, 7], 5),
        Projected("projected: several blocks and a rest", [37, 129], 65),
        Projected("projected: pieces of 16 bytes", [3, 11, 64], 24),
        Projected("projected: no elements", [0, 8], 3),
        Of("inner width of a 340M model", [1024, 2816]) with { IsBenchmark = true, ForwardBytes = 3.0 * 4 * 1024 * 2816, BackwardBytes = 5.0 * 4 * 1024 * 2816, ForwardFlops = 20.0 * 1024 * 2816 },
    ];

    private static OperatorCase Projected(string name, Shape shape, int outputs)
    {
        int inputs = shape[^1];
        return new(
            "SwiGlu",
            name,
            [new("gate", shape), new("up", shape), new("weight", [outputs, inputs], Scale: 1 / Math.Sqrt(inputs)) { Role = CaseRole.ParameterMatrix }],
            inputs => [SwiGlu.ApplyThenProject(inputs[0], inputs[1], inputs[2])],
            v => [Linear.Reference(SwiGlu.Reference(v[0], v[1]), v[2], null, inputs)],
            (v, g) =>
            {
                (double[] product, double[] weight, _) = Linear.ReferenceGradient(SwiGlu.Reference(v[0], v[1]), v[2], g[0], inputs);
                (double[] gate, double[] up) = SwiGlu.ReferenceGradient(v[0], v[1], product);
                return [gate, up, weight];
            });
    }

    private static OperatorCase Of(string name, Shape shape, double gateScale = 1)
        => new(
            "SwiGlu",
            name,
            [new("gate", shape, Scale: gateScale), new("up", shape)],
            inputs => [SwiGlu.Apply(inputs[0], inputs[1])],
            inputs => [SwiGlu.Reference(inputs[0], inputs[1])],
            (inputs, gradients) =>
            {
                (double[] gate, double[] up) = SwiGlu.ReferenceGradient(inputs[0], inputs[1], gradients[0]);
                return [gate, up];
            })
        {
            ForwardTolerance = 3e-7,
            GradientTolerance = 4e-7,
        };
}
