using System.Globalization;
using ExactFlow.Tensors;

namespace ExactFlow.Training.Data;

/// <summary>Text to train on and text held out for validation, both as UTF-8 bytes.</summary>
/// <param name="Source">Where it came from, in words, for people.</param>
/// <param name="Training">Training text.</param>
/// <param name="Validation">Validation text; no part of it is in the training text.</param>
/// <param name="TrainingFiles">Files that went into the training text.</param>
/// <param name="ValidationFiles">Files that went into the validation text; 0 if it is the end of the training files.</param>
public sealed record TextCorpus(string Source, ReadOnlyMemory<byte> Training, ReadOnlyMemory<byte> Validation, int TrainingFiles, int ValidationFiles)
{
    /// <summary>The documents of the training text, one after another: one per file.</summary>
    public IReadOnlyList<ReadOnlyMemory<byte>> TrainingDocuments { get; init; } = [Training];

    /// <summary>The documents of the validation text, one after another.</summary>
    public IReadOnlyList<ReadOnlyMemory<byte>> ValidationDocuments { get; init; } = [Validation];

    /// <summary>What to call the text for people where its bytes are not here; null: its sizes are named.</summary>
    public string? Description { get; init; }

    /// <summary>Checks that there is enough text.</summary>
    /// <param name="trainingBytes">Least bytes of training text.</param>
    /// <param name="validationBytes">Least bytes of validation text.</param>
    /// <returns>This corpus.</returns>
    /// <exception cref="InvalidInputException">Too little; the message says how much there is and how much is needed.</exception>
    public TextCorpus Require(long trainingBytes, long validationBytes)
    {
        RequirePart("training", Training.Length, trainingBytes);
        RequirePart("validation", Validation.Length, validationBytes);
        return this;
    }

    /// <inheritdoc/>
    public override string ToString() => Description ?? string.Create(CultureInfo.InvariantCulture,
        $"{Source}: {Training.Length / 1e6:F2} MB from {TrainingFiles} file{(TrainingFiles == 1 ? "" : "s")} to train on, {Validation.Length / 1e6:F2} MB {(ValidationFiles == 0 ? "at the end" : $"from {ValidationFiles} other file{(ValidationFiles == 1 ? "" : "s")}")} held out");

    private void RequirePart(string part, long found, long needed)
    {
        if (found < needed)
        {
            throw new InvalidInputException(
                $"The {part} text of {Source} has {found} bytes, but at least {needed} are needed; give a longer text, shorter sequences or smaller batches.");
        }
    }
}
