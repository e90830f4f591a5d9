using System.CommandLine;

namespace ExactFlow.Cli.Parsing;

/// <summary>A command with examples for its help.</summary>
/// <param name="name">Its name.</param>
/// <param name="description">One or two sentences for the help.</param>
internal sealed class CliCommand(string name, string description) : Command(name, description), IHasExamples
{
    /// <inheritdoc/>
    public IReadOnlyList<(string Line, string Meaning)> Examples { get; init; } = [];
}
