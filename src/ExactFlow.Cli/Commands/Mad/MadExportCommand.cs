using System.CommandLine;
using System.Globalization;
using ExactFlow.Cli.Parsing;
using ExactFlow.Tensors.Files;
using ExactFlow.Training.Experiments.Mad;

namespace ExactFlow.Cli.Commands.Mad;

/// <summary><c>exactflow mad export</c>: examples in a file, for others to check or to use.</summary>
internal static class MadExportCommand
{
    /// <summary>Makes the command.</summary>
    public static Command Create()
    {
        Argument<string> task = MadOptions.Task();
        Option<string> output = Settings.Required("--out", "safetensors file to write: inputs and targets, int32 [examples, tokens], -100 where nothing is asked", "FILE");
        Option<string> split = MadOptions.Split();
        Option<int> count = Settings.Whole("--count", "examples, from the first on; 0 for as many as the split has", 0, 0, 10_000_000);
        Option<ulong> seed = Settings.Seed("seed of the data set");
        var command = new CliCommand("export", "Writes examples of a task to a safetensors file.")
        {
            Examples = [("exactflow mad export noisy_recall --split test --out noisy-test.safetensors", "the test examples that training with this seed uses")],
        };
        command.Arguments.Add(task);
        foreach (Option option in (Option[])[output, split, count, seed])
        {
            command.Options.Add(option);
        }

        Func<ParseResult, MadTaskKind, MadSettings> settingsOf = MadOptions.AddSettings(command);
        command.SetAction(parsed =>
        {
            MadTaskKind kind = MadTaskKind.Parse(parsed.GetRequiredValue(task));
            MadTask made = kind.Create(settingsOf(parsed, kind));
            MadSplit which = MadOptions.SplitOf(parsed.GetRequiredValue(split));
            int all = which == MadSplit.Train ? made.Settings.TrainExamples : made.Settings.TestExamples;
            int asked = parsed.GetValue(count) == 0 ? all : parsed.GetValue(count);
            MadExamples examples = MadExamples.Generate(made, which, parsed.GetValue(seed), asked);
            Write(parsed.GetRequiredValue(output), made, examples, parsed.GetRequiredValue(split), parsed.GetValue(seed));
            Console.WriteLine($"{parsed.GetRequiredValue(output)}: inputs and targets [{examples.Count}, {examples.Length}] of {made.Name}");
        });
        return command;
    }

    private static void Write(string path, MadTask task, MadExamples examples, string split, ulong seed)
    {
        long[] shape = [examples.Count, examples.Length];
        var metadata = new Dictionary<string, string>(StringComparer.Ordinal)
        {
            ["task"] = task.Name,
            ["setting"] = task.Settings.DifferenceTo(MadTaskKind.Parse(task.Name).Baseline),
            ["vocabulary"] = task.Settings.Vocabulary.ToString(CultureInfo.InvariantCulture),
            ["split"] = split,
            ["seed"] = seed.ToString(CultureInfo.InvariantCulture),
        };
        using var writer = new SafetensorsWriter(path, [new SafetensorsEntry("inputs", SafetensorsType.I32, shape), new SafetensorsEntry("targets", SafetensorsType.I32, shape)], metadata);
        writer.Write<int>("inputs", examples.Inputs);
        writer.Write<int>("targets", examples.Targets);
        writer.Commit();
    }
}
