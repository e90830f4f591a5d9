namespace ExactFlow.Training.Experiments.Mad;

/// <summary>What examples are for: each split has random numbers of its own.</summary>
public enum MadSplit
{
    /// <summary>Training.</summary>
    Train,

    /// <summary>Testing.</summary>
    Test,
}
