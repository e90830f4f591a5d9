namespace ExactFlow.Training.Experiments.Mad;

/// <summary>What a training gave.</summary>
/// <param name="Accuracy">The best test accuracy of all epochs, a mean over classes, from 0 to 1.</param>
/// <param name="BestEpoch">The first epoch that had it, from 1.</param>
/// <param name="Epochs">Epochs done: fewer than asked for when the task was solved.</param>
/// <param name="Parameters">Numbers in the model's parameters.</param>
/// <param name="SkippedSteps">Steps that were not applied because their gradients were not finite.</param>
/// <param name="Losses">Mean training loss of every epoch, nats per target.</param>
/// <param name="Accuracies">Test accuracy after every epoch.</param>
/// <param name="Extrapolation">Test accuracy at other lengths, after the last epoch.</param>
/// <param name="Score">The test after the last epoch as <see cref="MadScore"/> counts it, from 0 to 1; null in results from before there was one.</param>
public sealed record MadOutcome(
    double Accuracy, int BestEpoch, int Epochs, long Parameters, int SkippedSteps, IReadOnlyList<double> Losses, IReadOnlyList<double> Accuracies, IReadOnlyList<MadLength> Extrapolation, double? Score = null);

/// <summary>Test accuracy at a length.</summary>
/// <param name="Length">Tokens of the sequences.</param>
/// <param name="Accuracy">A mean over classes, from 0 to 1.</param>
public sealed record MadLength(int Length, double Accuracy);
