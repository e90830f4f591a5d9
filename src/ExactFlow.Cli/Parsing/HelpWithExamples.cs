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
        if (parseResult.CommandResult.Command is IHasExamples { Examples: { Count: > 0 } examples })
        {
            TextWriter output = parseResult.InvocationConfiguration.Output;
            output.WriteLine("Examples:");
            foreach ((string line, string meaning) in examples)
            {
                output.WriteLine($"  {line}");
                output.WriteLine($"      {meaning}");
            }

            output.WriteLine();
        }

        return ExitCode.Success;
    }
}

/// <summary>A command whose help ends with examples.</summary>
internal interface IHasExamples
{
    /// <summary>Command lines, each with what it does.</summary>
    IReadOnlyList<(string Line, string Meaning)> Examples { get; }
}
