namespace ExactFlow.Training.Benchmarks;

/// <summary>One way of doing the work of a case.</summary>
/// <param name="Name">Shown in the table.</param>
/// <param name="Run">Does the work once.</param>
/// <param name="Work">Units of work of doing it once, where it differs from the case's.</param>
public sealed record Contender(string Name, Action Run, double? Work = null);
