using System.Globalization;

namespace ExactFlow.Training.Experiments.SequentialMnist;

/// <summary>How test images are disturbed.</summary>
public enum PerturbationKind
{
    /// <summary>Not at all.</summary>
    None,

    /// <summary>Every pixel is multiplied by the level.</summary>
    Intensity,

    /// <summary>Normal noise of that standard deviation is added to every pixel; nothing is clipped.</summary>
    Noise,

    /// <summary>Each pixel becomes 0 with that probability; the others stay as they are.</summary>
    Dropout,
}

/// <summary>A disturbance of the test images.</summary>
/// <param name="Kind">Which.</param>
/// <param name="Level">How much.</param>
public readonly record struct Perturbation(PerturbationKind Kind, double Level)
{
    /// <summary>Levels of intensity: 1 to 10.</summary>
    public static IReadOnlyList<double> IntensityLevels { get; } = [.. Enumerable.Range(1, 10).Select(level => (double)level)];

    /// <summary>Levels of noise and of dropout: 0 to 1 in tenths.</summary>
    public static IReadOnlyList<double> TenthLevels { get; } = [.. Enumerable.Range(0, 11).Select(level => level / 10.0)];

    /// <summary>The same disturbance, with those that change nothing made one: an intensity of 1, noise of 0, dropout of 0.</summary>
    public Perturbation Canonical => (Kind, Level) is (PerturbationKind.Intensity, 1) or (PerturbationKind.Noise or PerturbationKind.Dropout, 0) ? default : this;

    /// <inheritdoc/>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Kind} {Level:0.#}");
}
