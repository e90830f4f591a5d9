using System.CommandLine;

namespace ExactFlow.Cli.Parsing;

/// <summary>A command with examples, and perhaps settings, for its help.</summary>
/// <param name="name">Its name.</param>
/// <param name="description">One or two sentences for the help.</param>
internal sealed class CliCommand(string name, string description) : Command(name, description)
{
    /// <summary>Command lines that end the help, each with what it does.</summary>
    public required IReadOnlyList<(string Line, string Meaning)> Examples { get; init; }

    /// <summary>Settings of a recipe with their defaults and meanings, shown in the help.</summary>
    public IReadOnlyList<(string Setting, string Meaning)> Settings { get; init; } = [];
}
