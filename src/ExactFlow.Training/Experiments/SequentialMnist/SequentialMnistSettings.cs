namespace ExactFlow.Training.Experiments.SequentialMnist;

/// <summary>The fingerprint of a study's folder: results under other settings, or of other images, do not belong beside these.</summary>
/// <param name="Options">What all runs share.</param>
/// <param name="TrainingImages">SHA-256 of the training images and labels.</param>
/// <param name="TestImages">SHA-256 of the test images and labels.</param>
internal sealed record SequentialMnistSettings(SequentialMnistOptions Options, string TrainingImages, string TestImages);
