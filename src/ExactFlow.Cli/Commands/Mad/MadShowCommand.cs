using System.CommandLine;
using ExactFlow.Cli.Display;
using ExactFlow.Cli.Parsing;
using ExactFlow.Training.Experiments.Mad;

namespace ExactFlow.Cli.Commands.Mad;

/// <summary><c>exactflow mad show</c>: an example that a person can read.</summary>
internal static class MadShowCommand
{
    private const int PerLine = 16;

    /// <summary>Makes the command.</summary>
    public static Command Create()
    {
        Argument<string> task = MadOptions.Task();
        Option<string> split = MadOptions.Split();
        Option<int> index = Settings.Whole("--index", "which example", 0, 0);
        Option<ulong> seed = Settings.Seed("seed of the data set");
        Option<bool> json = new("--json") { Description = "write one JSON document to standard output" };
        var command = new CliCommand("show", "Prints an example of a task: what the model reads and, below it, what it must say; a dot where nothing is asked.")
        {
            Examples =
            [
                ("exactflow mad show in_context_recall --split test", "keys k0 to k7, values v0 to v7"),
                ("exactflow mad show fuzzy_recall --length 64", "a shorter sequence"),
            ],
        };
        command.Arguments.Add(task);
        foreach (Option option in (Option[])[split, index, seed, json])
        {
            command.Options.Add(option);
        }

        Func<ParseResult, MadTaskKind, MadSettings> settingsOf = MadOptions.AddSettings(command);
        command.SetAction(parsed =>
        {
            MadTaskKind kind = MadTaskKind.Parse(parsed.GetRequiredValue(task));
            MadTask made = kind.Create(settingsOf(parsed, kind));
            int[] inputs = new int[made.InputLength], targets = new int[made.InputLength];
            made.Generate(MadOptions.SplitOf(parsed.GetRequiredValue(split)), parsed.GetValue(seed), parsed.GetValue(index), inputs, targets);
            if (parsed.GetValue(json))
            {
                JsonOutput.Write(new { Task = made.Name, Inputs = inputs, Targets = targets });
            }
            else
            {
                Print(made, inputs, targets);
            }
        });
        return command;
    }

    private static void Print(MadTask task, int[] inputs, int[] targets)
    {
        string[] read = [.. inputs.Select(task.Describe)], said = [.. targets.Select(target => target == MadTask.Ignored ? "." : task.Describe(target))];
        int asked = targets.Count(target => target != MadTask.Ignored), width = read.Concat(said).Max(word => word.Length) + 1;
        Console.WriteLine($"{task.Name}: {inputs.Length} tokens of {task.Settings.Vocabulary}, {asked} targets");
        for (int start = 0; start < inputs.Length; start += PerLine)
        {
            Console.WriteLine();
            Console.WriteLine("reads " + string.Concat(read.Skip(start).Take(PerLine).Select(word => word.PadLeft(width))));
            Console.WriteLine("says  " + string.Concat(said.Skip(start).Take(PerLine).Select(word => word.PadLeft(width))));
        }
    }
}
