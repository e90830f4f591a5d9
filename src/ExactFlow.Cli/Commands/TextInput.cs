using ExactFlow.Training.Data;
using ExactFlow.Training.Options;

namespace ExactFlow.Cli.Commands;

/// <summary>The text of a recipe.</summary>
internal static class TextInput
{
    /// <summary>Reads the text that a recipe names, and what is held out of it.</summary>
    public static TextCorpus Read(DataOptions options) => TextSource.Load(options.Text, options.ValidationText, options.ValidationFraction);
}
