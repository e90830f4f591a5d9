using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;

namespace ExactFlow.Cli.Parsing;

/// <summary>The usual help, followed by command lines that can be copied.</summary>
internal sealed class HelpWithExamples(HelpAction inner) : SynchronousCommandLineAction
{
    /// <inheritdoc/>
    public override bool ClearsParseErrors => true;

    /// <inheritdoc/>
    public override int Invoke(ParseResult parseResult)
    {
        inner.MaxWidth = Math.Max(inner.MaxWidth, 100);
        inner.Invoke(parseResult);
        if (parseResult.CommandResult.Command is CliCommand command)
        {
            TextWriter output = parseResult.InvocationConfiguration.Output;
            WriteSettings(output, command.Settings);
            WriteExamples(output, command.Examples);
        }

        return ExitCode.Success;
    }

    private static void WriteSettings(TextWriter output, IReadOnlyList<(string Setting, string Meaning)> settings)
    {
        if (settings.Count == 0)
        {
            return;
        }

        int width = settings.Max(row => row.Setting.Length);
        output.WriteLine("Settings (in a recipe or with --set), with their defaults:");
        foreach ((string setting, string meaning) in settings)
        {
            output.WriteLine($"  {setting.PadRight(width)}  {meaning}");
        }

        output.WriteLine();
    }

    private static void WriteExamples(TextWriter output, IReadOnlyList<(string Line, string Meaning)> examples)
    {
        output.WriteLine("Examples:");
        foreach ((string line, string meaning) in examples)
        {
            output.WriteLine($"  {line}");
            output.WriteLine($"      {meaning}");
        }

        output.WriteLine();
    }
}
