namespace ExactFlow.Training.Experiments.Mad;

/// <summary>A line of a study's results: which training it was and what came of it.</summary>
/// <param name="Task">The task.</param>
/// <param name="Setting">What differs from its baseline, or <c>baseline</c>.</param>
/// <param name="Mixer">The mixer.</param>
/// <param name="LearningRate">The learning rate of the first epoch.</param>
/// <param name="WeightDecay">AdamW's weight decay.</param>
/// <param name="Seed">Seed of data, weights and order.</param>
/// <param name="Outcome">What came of it; curves are rounded to four places.</param>
public sealed record MadResult(string Task, string Setting, string Mixer, double LearningRate, double WeightDecay, ulong Seed, MadOutcome Outcome)
{
    /// <summary>The result of a training.</summary>
    public static MadResult Of(MadPoint point, MadOutcome outcome)
    {
        ArgumentNullException.ThrowIfNull(point);
        ArgumentNullException.ThrowIfNull(outcome);
        return new MadResult(point.Task.Name, point.Setting, point.Mixer.Name, point.LearningRate, point.WeightDecay, point.Seed, outcome with
        {
            Losses = [.. outcome.Losses.Select(Short)],
            Accuracies = [.. outcome.Accuracies.Select(Short)],
        });
    }

    private static double Short(double value) => double.IsFinite(value) ? Math.Round(value, 4) : value;
}
