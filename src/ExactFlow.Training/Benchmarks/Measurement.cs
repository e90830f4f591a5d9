namespace ExactFlow.Training.Benchmarks;

/// <summary>What was measured of one contender in one case.</summary>
/// <param name="Suite">Suite.</param>
/// <param name="Case">Case, the same for all contenders of a comparison.</param>
/// <param name="Contender">Contender.</param>
/// <param name="Seconds">Median time of doing the work once.</param>
/// <param name="Rate">Work per second, in <paramref name="Unit"/>.</param>
/// <param name="Unit">Unit of the rate, such as GFLOP/s.</param>
/// <param name="Ratio">Median over rounds of this contender's rate divided by the first contender's in the same round.</param>
public sealed record Measurement(string Suite, string Case, string Contender, double Seconds, double Rate, string Unit, double Ratio);
