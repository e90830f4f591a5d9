namespace ExactFlow.Training.Benchmarks;

/// <summary>One way of doing the work of a case.</summary>
/// <param name="Name">Shown in the table.</param>
/// <param name="Run">Does the work once, or <see cref="Repetitions"/> times.</param>
/// <param name="Work">Units of work of doing it once, where it differs from the case's.</param>
public sealed record Contender(string Name, Action Run, double? Work = null)
{
    /// <summary>How often <see cref="Run"/> does the work, as a graph of repetitions does.</summary>
    public int Repetitions { get; init; } = 1;

    /// <summary>Whether <see cref="Run"/> only queues work on the run's GPU, which is then timed there.</summary>
    public bool IsQueued { get; init; }

    /// <summary>Bytes that doing it once must move, for a share of the measured rate of copying; 0 when that says nothing.</summary>
    public double Bytes { get; init; }

    /// <summary>Floating-point operations of doing it once, for a share of the measured rate of matrix products; 0 when that says nothing.</summary>
    public double Flops { get; init; }
}
