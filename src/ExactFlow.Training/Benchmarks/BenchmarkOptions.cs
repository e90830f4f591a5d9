namespace ExactFlow.Training.Benchmarks;

/// <summary>What is to be measured, and for how long.</summary>
public sealed record BenchmarkOptions
{
    /// <summary>Only cases whose name contains this; empty for all.</summary>
    public string Filter { get; init; } = "";

    /// <summary>Worker threads; 0 for what the suite would use.</summary>
    public int Threads { get; init; }

    /// <summary>Measuring time of a case, all contenders together.</summary>
    public double SecondsPerCase { get; init; } = 0.6;
}
