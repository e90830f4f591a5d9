using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>The shapes that <see cref="HeadSkip"/> is tested and timed at.</summary>
public sealed class HeadSkipCases : IOperatorCases
{
    /// <inheritdoc/>
    public static IEnumerable<OperatorCase> Cases =>
    [
        Case("one number", [1, 1]),
        Case("one token, odd heads", [1, 1, 3, 7]),
        Case("odd everywhere", [3, 5, 7, 63]),
        Case("around a vector", [2, 65, 2, 65]),
        Case("a hundred tokens", [1, 100, 4, 16]),
        Case("no tokens", [1, 0, 4, 16]),
        Case("blocks of rows", [2, 700, 3, 33]),
        Case("a small Mamba-2", [2, 512, 8, 64]) with { IsBenchmark = true },
    ];

    private static OperatorCase Case(string name, Shape shape) => new(
        "HeadSkip",
        name,
        [new("output", shape), new("x", shape), new("weight", [shape[^2]])],
        t => [HeadSkip.Apply(t[0], t[1], t[2])],
        v => [HeadSkip.Reference(v[0], v[1], v[2], shape[^1])],
        (v, g) =>
        {
            (double[] output, double[] x, double[] weight) = HeadSkip.ReferenceGradient(v[1], v[2], g[0], shape[^1]);
            return [output, x, weight];
        })
    {
        ForwardFlops = 2.0 * shape.Count,
        ForwardBytes = 12.0 * shape.Count,
    };
}
