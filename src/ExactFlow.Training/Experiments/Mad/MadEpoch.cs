namespace ExactFlow.Training.Experiments.Mad;

/// <summary>What an epoch gave.</summary>
/// <param name="Loss">Mean loss of its steps.</param>
/// <param name="Applied">Steps that were applied.</param>
/// <param name="Hits">Test targets of each class that were hit after it.</param>
internal sealed record MadEpoch(double Loss, int Applied, int[] Hits);
