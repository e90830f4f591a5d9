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
        Option<int> index = Settings.Whole("--index", "which example", 0, 0);
        Option<bool> json = new("--json") { Description = "write one JSON document to standard output" };
        var command = new CliCommand("show", "Prints an example of a task: what the model reads and, below it, what it must say; a dot where nothing is asked.")
        {
            Examples =
            [
                ("exactflow mad show in_context_recall --split test", "keys k0 to k7, values v0 to v7"),
                ("exactflow mad show fuzzy_recall --length 64", "a shorter sequence"),
            ],
        };
        command.Options.Add(index);
        command.Options.Add(json);
        MadExampleOptions examplesOf = MadExampleOptions.AddTo(command);
        command.SetAction(parsed =>
        {
            (MadTask task, MadSplit split, ulong seed) = examplesOf.Read(parsed);
            int[] inputs = new int[task.InputLength], targets = new int[task.InputLength];
            task.Generate(split, seed, parsed.GetValue(index), inputs, targets);
            if (parsed.GetValue(json))
            {
                JsonOutput.Write(new { Task = task.Name, Inputs = inputs, Targets = targets });
            }
            else
            {
                Print(task, inputs, targets);
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
