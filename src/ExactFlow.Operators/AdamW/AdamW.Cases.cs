using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>Sizes and constants that <see cref="AdamW"/> is tested and timed at: several steps, then the parameter and both moments are compared.</summary>
public sealed class AdamWCases : IOperatorCases
{
    private const float LearningRate = 1e-2f;

    /// <inheritdoc/>
    public static IEnumerable<OperatorCase> Cases =>
    [
        Case("twenty steps with decay", 100, 20, decays: true, new AdamWOptions()),
        Case("twenty steps without decay", 100, 20, decays: false, new AdamWOptions()),
        Case("slow second moment", 65, 20, decays: true, new AdamWOptions { Beta2 = 0.999 }),
        Case("no momentum", 63, 3, decays: true, new AdamWOptions { Beta1 = 0, Beta2 = 0 }),
        Case("one number, one step", 1, 1, decays: true, new AdamWOptions()),
        Case("gradients at the size of epsilon", 7, 5, decays: true, new AdamWOptions(), gradientScale: 1e-8),
        Case("large gradients", 7, 5, decays: false, new AdamWOptions(), gradientScale: 1e12),
        Case("clipped to norm 1", 33, 4, decays: true, new AdamWOptions(), clip: 1),
        Case("several blocks, the last one short", 40_001, 2, decays: true, new AdamWOptions()),
        Case("a million", 1 << 20, 1, decays: true, new AdamWOptions()) with { IsBenchmark = true },
    ];

    private static OperatorCase Case(string name, int size, int steps, bool decays, AdamWOptions options, double gradientScale = 1, double clip = 0)
        => new(
            "AdamW",
            name,
            [new("value", [size]) { Differentiable = false, Role = CaseRole.Scalar }, new("gradients", [steps, size], Scale: gradientScale) { Differentiable = false, Role = CaseRole.Scalar }],
            t => Run(t[0], t[1], decays, options, clip),
            v => Reference(v[0], v[1], decays, options, clip),
            (_, _) => [null, null])
        {
            IsSteady = false,
            CanBeCaptured = false,
            ForwardFlops = 15.0 * size * steps,
            ForwardBytes = 7.0 * sizeof(float) * size * steps,
        };

    private static IReadOnlyList<Tensor> Run(Tensor value, Tensor gradients, bool decays, AdamWOptions options, double clip)
    {
        Device device = value.Device;
        using var parameter = new Parameter("value", device.Persistent(value.Shape), decays);
        parameter.Value.CopyFrom(value);
        using var optimizer = new AdamW([parameter], options);
        for (int step = 0; step < gradients.Shape[0]; step++)
        {
            optimizer.ClearGradients();
            parameter.Value.GradForWrite(out _).CopyFrom(gradients.Slice(step, 1));
            optimizer.ClipAndStep(LearningRate, clip);
        }

        Tensor[] results = [device.Empty(value.Shape), device.Empty(value.Shape), device.Empty(value.Shape)];
        results[0].CopyFrom(parameter.Value);
        results[1].CopyFrom(optimizer.FirstMoments[0]);
        results[2].CopyFrom(optimizer.SecondMoments[0]);
        return results;
    }

    private static IReadOnlyList<double[]> Reference(double[] start, double[] gradients, bool decays, AdamWOptions options, double clip)
    {
        double[] value = [.. start];
        var first = new double[value.Length];
        var second = new double[value.Length];
        for (int step = 0; step < gradients.Length / value.Length; step++)
        {
            double[] gradient = gradients.AsSpan(step * value.Length, value.Length).ToArray();
            double norm = Math.Sqrt(gradient.Sum(g => g * g));
            double factor = clip > 0 && norm > clip ? clip / norm : 1;
            AdamW.Reference(value, [.. gradient.Select(g => factor * g)], first, second, step + 1, LearningRate, options, decays);
        }

        return [value, first, second];
    }
}
