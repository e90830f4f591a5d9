using System.CommandLine;
using ExactFlow.Cli.Parsing;

namespace ExactFlow.Cli.Commands.Tokenizers;

/// <summary>Options that the commands on tokenizers share.</summary>
internal static class TokenizerOptions
{
    /// <summary><c>--tokenizer</c>.</summary>
    public static Option<string> Tokenizer() => Settings.Required("--tokenizer", "tokenizer.json, or a folder with one, or with encoder.json and vocab.bpe", "FILE|DIR");

    /// <summary><c>--text</c>.</summary>
    public static Option<string[]> Text(string description, bool isRequired) => new("--text")
    {
        Description = description,
        HelpName = "FILE|DIR",
        AllowMultipleArgumentsPerToken = true,
        Required = isRequired,
    };

    /// <summary><c>--json</c>.</summary>
    public static Option<bool> Json() => new("--json") { Description = "write one JSON document to standard output" };

    /// <summary><c>--threads</c>.</summary>
    public static Option<int> Threads() => Settings.Whole("--threads", "threads to use; 0 = one per logical processor", 0, 0, 1024);
}
