namespace ExactFlow.Training.Experiments.SequentialMnist;

/// <summary>What all runs of a study share; the rest is in the names of its runs.</summary>
public sealed record SequentialMnistOptions
{
    /// <summary>Passes over the training images.</summary>
    public int Epochs { get; init; } = 1;

    /// <summary>Only the first so many training images, or 0 for all.</summary>
    public int TrainingLimit { get; init; }

    /// <summary>Only the first so many test images, or 0 for all.</summary>
    public int TestLimit { get; init; }

    /// <summary>Images per step.</summary>
    public int BatchSize { get; init; } = 128;

    /// <summary>Largest norm of a gradient.</summary>
    public double Clip { get; init; } = 1;
}
