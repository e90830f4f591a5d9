namespace ExactFlow.Training.Benchmarks;

/// <summary>What was measured of one contender in one case.</summary>
/// <param name="Suite">Suite.</param>
/// <param name="Case">Case, the same for all contenders of a comparison.</param>
/// <param name="Contender">Contender.</param>
/// <param name="Seconds">Median time of doing the work once.</param>
/// <param name="Rate">Work per second, in <paramref name="Unit"/>.</param>
/// <param name="Unit">Unit of the rate, such as GFLOP/s.</param>
/// <param name="Ratio">Median over rounds of this contender's rate divided by the first contender's in the same round.</param>
public sealed record Measurement(string Suite, string Case, string Contender, double Seconds, double Rate, string Unit, double Ratio)
{
    /// <summary>Bytes that doing the work once must move, where it was said.</summary>
    public double? Bytes { get; init; }

    /// <summary>Those bytes per second, as a share of what the GPU was measured to copy in this run.</summary>
    public double? CopyShare { get; init; }

    /// <summary>Floating-point operations of doing the work once, where it was said.</summary>
    public double? Flops { get; init; }

    /// <summary>Those operations per second, as a share of the matrix-product rate that the GPU was measured to reach in this run.</summary>
    public double? ProductShare { get; init; }

    /// <summary>Bytes of the GPU's memory that the work held.</summary>
    public long? MemoryBytes { get; init; }
}
