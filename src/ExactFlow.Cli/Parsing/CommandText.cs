using System.CommandLine;

namespace ExactFlow.Cli.Parsing;

/// <summary>A command line as text, for reports.</summary>
internal static class CommandText
{
    /// <summary>The command that was given, words with blanks in quotes.</summary>
    public static string Of(ParseResult parsed) =>
        string.Join(' ', parsed.Tokens.Select(token => token.Value.Contains(' ', StringComparison.Ordinal) || token.Value.Length == 0 ? $"\"{token.Value}\"" : token.Value).Prepend("exactflow"));
}
