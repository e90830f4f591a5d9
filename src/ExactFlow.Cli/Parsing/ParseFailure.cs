using System.CommandLine;
using System.CommandLine.Help;

namespace ExactFlow.Cli.Parsing;

/// <summary>Says in one sentence what is wrong with a command line, and what was meant or is allowed.</summary>
internal static class ParseFailure
{
    /// <summary>The sentence, or null when the command line can be run.</summary>
    public static string? Describe(ParseResult parsed)
    {
        if (parsed.Errors.Count == 0 || parsed.Action is HelpAction or HelpWithExamples)
        {
            return null;
        }

        Command command = parsed.CommandResult.Command;
        string title = command is RootCommand ? "exactflow" : $"exactflow {command.Name}";
        if (parsed.UnmatchedTokens.FirstOrDefault() is { } token)
        {
            bool isOption = token.StartsWith('-');
            string[] allowed = isOption || command.Subcommands.Count == 0
                ? [.. Options(command)]
                : [.. command.Subcommands.Where(sub => !sub.Hidden).Select(sub => sub.Name)];
            string kind = isOption ? "option" : command.Subcommands.Count == 0 ? "argument" : "command";
            return $"{title} has no {kind} '{token}'{Suggestion.For(token.Split('=')[0], allowed)}: choose from {string.Join(", ", allowed)}, or see {title} --help.";
        }

        if (command.Subcommands.Count > 0 && command.Action is null)
        {
            return $"{title} needs a command: {string.Join(", ", command.Subcommands.Select(sub => sub.Name))} (exactflow COMMAND --help explains each).";
        }

        string message = parsed.Errors[0].Message.TrimEnd('.');
        return $"{message}; see {title} --help.";
    }

    private static IEnumerable<string> Options(Command command) =>
        command.Options.Concat(command.Parents.OfType<Command>().SelectMany(parent => parent.Options.Where(option => option.Recursive)))
            .Where(option => !option.Hidden)
            .Select(option => option.Name);
}
