using System.CommandLine;
using System.CommandLine.Help;
using System.Text;
using System.Text.RegularExpressions;
using ExactFlow.Cli.Commands;
using ExactFlow.Cli.Commands.Mad;
using ExactFlow.Cli.Commands.SequentialMnist;
using ExactFlow.Cli.Commands.Tokenizers;
using ExactFlow.Cli.Parsing;
using ExactFlow.Tensors;

namespace ExactFlow.Cli;

/// <summary>The command line as a whole: parses, runs one command, and turns whatever goes wrong into one sentence and an exit code.</summary>
internal static partial class CommandLine
{
    /// <summary>Set to 1 to see the stack trace of a failure.</summary>
    public const string DebugVariable = "EXACTFLOW_DEBUG";

    /// <summary>Runs one command line and returns the exit code.</summary>
    public static int Run(string[] args)
    {
        Console.OutputEncoding = new UTF8Encoding(encoderShouldEmitUTF8Identifier: false);
        using var interruption = new Interruption();
        try
        {
            RootCommand root = Build(interruption);
            ParseResult parsed = root.Parse(args, new ParserConfiguration { ResponseFileTokenReplacer = null });
            if (ParseFailure.Describe(parsed) is { } failure)
            {
                throw new InvalidInputException(failure);
            }

            return parsed.Invoke(new InvocationConfiguration { EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = null });
        }
        catch (Exception exception)
        {
            return Report(exception);
        }
    }

    /// <summary>The commands with their options and help.</summary>
    internal static RootCommand Build(Interruption interruption)
    {
        var root = new RootCommand("Trains, compares and runs exact-flow linear-attention models on this machine.")
        {
            CompareCommand.Create(interruption),
            MadCommand.Create(interruption),
            TrainCommand.Create(interruption),
            GenerateCommand.Create(),
            EvalCommand.Create(),
            LogitsCommand.Create(),
            DataCommand.Create(interruption),
            SmnistCommand.Create(interruption),
            InspectCommand.Create(),
            ConvertCommand.Create(),
            TokenizerCommand.Create(),
            OpCommand.Create(),
            BenchCommand.Create(),
            DoctorCommand.Create(),
        };
        HelpOption help = root.Options.OfType<HelpOption>().Single();
        help.Description = "Show this help.";
        help.Action = new HelpWithExamples((HelpAction)help.Action!);
        root.Options.OfType<VersionOption>().Single().Description = "Show the version.";
        return root;
    }

    /// <summary>The exit code and the sentence for a failure.</summary>
    internal static (int ExitCode, string Sentence) Describe(Exception exception)
    {
        // A full disk, a missing permission or too little memory are not faults of the program: their messages say what to do.
        // What the framework says inside our sentence may have sentences of its own.
        string message = SentenceEnd().Replace(exception.Message.ReplaceLineEndings(" ").Trim(), "; ");
        return exception is InvalidInputException or IOException or UnauthorizedAccessException or OutOfMemoryException
            ? (ExitCode.InvalidInput, message)
            : (ExitCode.Fault, $"the program failed with {exception.GetType().Name}: {message} (set {DebugVariable}=1 to see where)");
    }

    [GeneratedRegex(@"\.\s+(?=\p{Lu})", RegexOptions.CultureInvariant, matchTimeoutMilliseconds: 1000)]
    private static partial Regex SentenceEnd();

    private static int Report(Exception exception)
    {
        (int exitCode, string sentence) = Describe(exception);
        Console.Error.WriteLine($"exactflow: {sentence}");
        if (Environment.GetEnvironmentVariable(DebugVariable) == "1")
        {
            Console.Error.WriteLine(exception);
        }

        return exitCode;
    }
}
