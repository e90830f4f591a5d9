using System.Globalization;

namespace ExactFlow.Training.Experiments.Mad;

/// <summary>How hard a task is made. Only <see cref="MadTaskKind.Create"/> knows whether values go together.</summary>
public sealed record MadSettings
{
    /// <summary>Name of the settings that everything else is compared with.</summary>
    public const string Baseline = "baseline";

    /// <summary>Names of what makes tasks harder, as in <c>--settings</c> and in the names of settings: <c>vocab=32</c>.</summary>
    public static IReadOnlyList<string> Variables { get; } = ["vocab", "length", "noise", "copy", "train"];

    /// <summary>Tokens that exist, special ones included.</summary>
    public required int Vocabulary { get; init; }

    /// <summary>Tokens of a whole sequence.</summary>
    public required int Length { get; init; }

    /// <summary>Training examples.</summary>
    public int TrainExamples { get; init; } = 12_800;

    /// <summary>Test examples.</summary>
    public int TestExamples { get; init; } = 1_280;

    /// <summary>Noisy recall: the probability that noise takes the place of a pair.</summary>
    public double Noise { get; init; }

    /// <summary>Noisy recall: how many tokens of the vocabulary are noise.</summary>
    public int NoiseVocabulary { get; init; }

    /// <summary>Fuzzy recall: the most tokens of a key, and of a value.</summary>
    public int Motif { get; init; }

    /// <summary>Selective copying: tokens to copy.</summary>
    public int Copies { get; init; }

    /// <summary>What differs from other settings, as in <c>vocab=32</c>; <see cref="Baseline"/> where nothing does.</summary>
    public string DifferenceTo(MadSettings baseline)
    {
        ArgumentNullException.ThrowIfNull(baseline);
        var parts = new List<string>();
        Compare("vocab", Vocabulary, baseline.Vocabulary);
        Compare("length", Length, baseline.Length);
        Compare("train", TrainExamples, baseline.TrainExamples);
        Compare("test", TestExamples, baseline.TestExamples);
        Compare("noise", Noise, baseline.Noise);
        Compare("motif", Motif, baseline.Motif);
        Compare("copy", Copies, baseline.Copies);
        return parts.Count == 0 ? Baseline : string.Join(' ', parts);

        void Compare(string name, double value, double usual)
        {
            if (value != usual)
            {
                parts.Add(string.Create(CultureInfo.InvariantCulture, $"{name}={value:0.####}"));
            }
        }
    }
}
