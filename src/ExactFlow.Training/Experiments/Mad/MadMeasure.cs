namespace ExactFlow.Training.Experiments.Mad;

/// <summary>A way to make one number of a training.</summary>
/// <param name="Name">What it is called in tables.</param>
/// <param name="Of">The number, from 0 to 1, or null where a training lacks it.</param>
internal sealed record MadMeasure(string Name, Func<MadOutcome, double?> Of)
{
    /// <summary>The best of all epochs: what a model can reach.</summary>
    public static MadMeasure BestEpoch { get; } = new("best epoch", static outcome => outcome.Accuracy);

    /// <summary>The last epoch: what training leaves.</summary>
    public static MadMeasure LastEpoch { get; } = new("last epoch", static outcome => outcome.Accuracies[^1]);

    /// <summary>The last epoch as MAD's public implementation counts.</summary>
    public static MadMeasure Score { get; } = new("score", static outcome => outcome.Score);
}
