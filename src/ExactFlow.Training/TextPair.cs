namespace ExactFlow.Training;

/// <summary>A text to train on and one that training never sees, as UTF-8 documents.</summary>
/// <param name="Training">Documents to train on.</param>
/// <param name="Validation">Documents held out.</param>
/// <param name="Description">What it is, in a line for the report.</param>
public sealed record TextPair(IReadOnlyList<ReadOnlyMemory<byte>> Training, IReadOnlyList<ReadOnlyMemory<byte>> Validation, string Description);
