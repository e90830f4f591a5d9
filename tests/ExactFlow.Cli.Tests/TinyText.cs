using System.Text;
using ExactFlow.Tensors.Randomness;

namespace ExactFlow.Cli.Tests;

/// <summary>Text and settings small enough that a test trains models in a second.</summary>
internal static class TinyText
{
    private static readonly string[] Words = ["the", "flow", "of", "a", "state", "is", "exact", "and", "every", "key", "decays", "with", "its", "norm", "never", "beyond", "it"];

    /// <summary>Settings of a tiny model, as arguments.</summary>
    /// <param name="prefix">Where the training settings lie: empty, or <c>training.</c> in a comparison.</param>
    public static string[] Settings(string prefix = "") =>
    [
        "--set", $"{prefix}model.hidden=32", "--set", $"{prefix}model.layers=1", "--set", $"{prefix}model.heads=2",
        "--set", $"{prefix}data.vocabulary=280", "--set", $"{prefix}data.sequence_length=32", "--set", $"{prefix}data.batch_size=2", "--set", $"{prefix}data.validation_fraction=0.1",
        "--set", $"{prefix}optimizer.warm_up_steps=2", "--set", $"{prefix}evaluation.windows=2", "--set", $"{prefix}evaluation.sample_tokens=8",
    ];

    /// <summary>Writes a few thousand words.</summary>
    public static void Write(string path)
    {
        var text = new StringBuilder();
        var random = new Philox(3, 3);
        for (ulong i = 0; i < 4008; i++)
        {
            text.Append(Words[random.Below(i, Words.Length)]).Append(i % 12 == 11 ? ".\n" : " ");
        }

        File.WriteAllText(path, text.ToString());
    }
}
