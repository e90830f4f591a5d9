using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>Cases of <see cref="Elementwise"/>.</summary>
public sealed class ElementwiseCases : IOperatorCases
{
    /// <inheritdoc/>
    public static IEnumerable<OperatorCase> Cases =>
    [
        .. Activation("Silu", Elementwise.Silu, Elementwise.Silu, Elementwise.SiluSlope),
        .. Activation("Gelu", Elementwise.Gelu, Elementwise.Gelu, Elementwise.GeluSlope),
        .. Activation("Sigmoid", Elementwise.Sigmoid, Elementwise.Sigmoid, Elementwise.SigmoidSlope),
        .. Activation("Softplus", Elementwise.Softplus, Elementwise.Softplus, Elementwise.Sigmoid),
        .. Sum(),
        .. Product(),
        .. Scale(),
        .. AddRow(),
        .. Convert(),
        .. Activation("Sigmoid in float32", x => Elementwise.Sigmoid(x, DType.Float32), Elementwise.Sigmoid, Elementwise.SigmoidSlope)
            .Where(operatorCase => !operatorCase.IsBenchmark).Select(operatorCase => operatorCase with { BFloat16ForwardTolerance = 5e-7 }),
    ];

    private static IEnumerable<OperatorCase> Activation(string function, Func<Tensor, Tensor> run, Func<double, double> value, Func<double, double> slope)
    {
        OperatorCase Of(string name, CaseInput input)
            => new(
                "Elementwise",
                $"{function}, {name}",
                [input],
                inputs => [run(inputs[0])],
                inputs => [Array.ConvertAll(inputs[0], x => value(x))],
                (inputs, gradients) => [inputs[0].Zip(gradients[0], (x, dy) => slope(x) * dy).ToArray()])
            {
                // A few roundings, and up to 3 units in the last place of the elementary functions.
                ForwardTolerance = 5e-7,
                GradientTolerance = 5e-7,
            };

        return
        [
            // Two gradients of one element, each rounded, may almost cancel.
            Of("one element", new("x", [1])) with { BFloat16GradientTolerance = 3e-2 },
            Of("odd sizes", new("x", [2, 3, 7])),
            Of("63 elements", new("x", [63])),
            Of("several blocks and a rest", new("x", [5, 7, 1003])),
            Of("no elements", new("x", [0, 8])),
            Of("both tails", new("x", [9, 65], Scale: 8)),
            Of("the left tail alone", new("x", [33], CaseValues.Negative, 20)),
            Of("extremes", new("x", [10]) { Explicit = [-1e30, -1000, -88.5, -1e-30, 0, 1e-30, 1e-3, 88.5, 1000, 1e15] }),
            Of("2M elements", new("x", [2048, 1024])) with { IsBenchmark = true, BackwardBytes = 3.0 * 4 * 2048 * 1024, ForwardBytes = 2.0 * 4 * 2048 * 1024, ForwardFlops = 20.0 * 2048 * 1024 },
        ];
    }

    private static IEnumerable<OperatorCase> Sum()
        => Pairs(
            "Add",
            Elementwise.Add,
            inputs => [inputs[0].Zip(inputs[1], (a, b) => a + b).ToArray()],
            (_, gradients) => [gradients[0], gradients[0]]);

    private static IEnumerable<OperatorCase> Product()
        => Pairs(
            "Multiply",
            Elementwise.Multiply,
            inputs => [inputs[0].Zip(inputs[1], (a, b) => a * b).ToArray()],
            (inputs, gradients) =>
            [
                inputs[1].Zip(gradients[0], (b, dy) => b * dy).ToArray(),
                inputs[0].Zip(gradients[0], (a, dy) => a * dy).ToArray(),
            ]);

    private static IEnumerable<OperatorCase> Pairs(
        string function,
        Func<Tensor, Tensor, Tensor> run,
        Func<IReadOnlyList<double[]>, IReadOnlyList<double[]>> reference,
        Func<IReadOnlyList<double[]>, IReadOnlyList<double[]>, IReadOnlyList<double[]?>> gradient)
    {
        OperatorCase Of(string name, Shape shape)
            => new("Elementwise", $"{function}, {name}", [new("a", shape), new("b", shape)], inputs => [run(inputs[0], inputs[1])], reference, gradient)
            {
                ForwardTolerance = 6e-8,
                GradientTolerance = 1.2e-7,
            };

        return
        [
            Of("one element", [1]),
            Of("odd sizes", [2, 3, 7]),
            Of("several blocks and a rest", [5, 7, 1003]),
            Of("no elements", [0]),
            Of("2M elements", [2048, 1024]) with { IsBenchmark = true, BackwardBytes = 3.0 * 4 * 2048 * 1024, ForwardBytes = 3.0 * 4 * 2048 * 1024, ForwardFlops = 2048 * 1024 },
        ];
    }

    private static IEnumerable<OperatorCase> Scale()
    {
        OperatorCase Of(string name, Shape shape, float factor)
            => new(
                "Elementwise",
                $"Scale, {name}",
                [new("x", shape)],
                inputs => [Elementwise.Scale(inputs[0], factor)],
                inputs => [Array.ConvertAll(inputs[0], x => factor * x)],
                (_, gradients) => [Array.ConvertAll(gradients[0], dy => factor * dy)])
            {
                ForwardTolerance = 6e-8,
                GradientTolerance = 1.2e-7,
            };

        return
        [
            Of("by zero", [2, 3, 7], 0),
            Of("several blocks and a rest", [5, 7, 1003], -0.3f),
            Of("no elements", [0], 2),
            Of("2M elements", [2048, 1024], 1.5f) with { IsBenchmark = true, BackwardBytes = 2.0 * 4 * 2048 * 1024, ForwardBytes = 2.0 * 4 * 2048 * 1024, ForwardFlops = 2048 * 1024 },
        ];
    }

    private static IEnumerable<OperatorCase> AddRow()
    {
        OperatorCase Of(string name, Shape shape)
            => new(
                "Elementwise",
                $"AddRow, {name}",
                [new("x", shape), new("row", [shape[^1]])],
                inputs => [Elementwise.AddRow(inputs[0], inputs[1])],
                inputs => [Elementwise.AddRowReference(inputs[0], inputs[1])],
                (inputs, gradients) => [gradients[0], Elementwise.RowSumsReference(gradients[0], inputs[1].Length)])
            {
                ForwardTolerance = 6e-8,
                // The sum of a column has terms of both signs.
                GradientTolerance = 3e-6,
            };

        return
        [
            Of("one element", [1]),
            Of("one feature", [65, 1]),
            Of("three features, many rows", [3001, 3]),
            Of("63 features", [7, 63]),
            Of("100 features", [2, 65, 100]),
            Of("no rows", [0, 5]),
            Of("2M elements", [2048, 1024]) with { IsBenchmark = true, BackwardBytes = 2.0 * 4 * 2048 * 1024, ForwardBytes = 2.0 * 4 * 2048 * 1024, ForwardFlops = 2048 * 1024 },
        ];
    }

    /// <summary>A conversion that a float32 run does not have to make, and a product in float32.</summary>
    private static IEnumerable<OperatorCase> Convert()
    {
        OperatorCase Of(string name, Shape shape)
            => new(
                "Elementwise",
                $"Convert, {name}",
                [new("x", shape)],
                inputs => [Elementwise.Scale(Elementwise.Convert(inputs[0], DType.Float32), 3)],
                inputs => [Array.ConvertAll(inputs[0], x => 3 * x)],
                (_, gradients) => [Array.ConvertAll(gradients[0], dy => 3 * dy)])
            {
                ForwardTolerance = 6e-8,
                GradientTolerance = 1.2e-7,
                // Values of 8 bits times 3 are exact in float32.
                BFloat16ForwardTolerance = 6e-8,
            };

        return
        [
            Of("one element", [1]),
            Of("63 elements", [63]),
            Of("several blocks and a rest", [5, 7, 1003]),
            Of("no elements", [0]),
        ];
    }
}
