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
        Option<string> output = Settings.Required("--out", "safetensors file to write: inputs and targets, int32 [examples, tokens], -100 where nothing is asked", "FILE");
        Option<int> count = Settings.Whole("--count", "examples, from the first on; 0 for as many as the split has", 0, 0, 10_000_000);
        var command = new CliCommand("export", "Writes examples of a task to a safetensors file.")
        {
            Examples = [("exactflow mad export noisy_recall --split test --out noisy-test.safetensors", "the test examples that training with this seed uses")],
        };
        command.Options.Add(output);
        command.Options.Add(count);
        MadExampleOptions examplesOf = MadExampleOptions.AddTo(command);
        command.SetAction(parsed =>
        {
            (MadTask task, MadSplit split, ulong seed) = examplesOf.Read(parsed);
            int all = split == MadSplit.Train ? task.Settings.TrainExamples : task.Settings.TestExamples;
            MadExamples examples = MadExamples.Generate(task, split, seed, parsed.GetValue(count) == 0 ? all : parsed.GetValue(count));
            Write(parsed.GetRequiredValue(output), task, examples, split, seed);
            Console.WriteLine($"{parsed.GetRequiredValue(output)}: inputs and targets [{examples.Count}, {examples.Length}] of {task.Name}");
        });
        return command;
    }

    private static void Write(string path, MadTask task, MadExamples examples, MadSplit split, ulong seed)
    {
        long[] shape = [examples.Count, examples.Length];
        var metadata = new Dictionary<string, string>(StringComparer.Ordinal)
        {
            ["task"] = task.Name,
            ["setting"] = task.Settings.DifferenceTo(MadTaskKind.Parse(task.Name).Baseline),
            ["vocabulary"] = task.Settings.Vocabulary.ToString(CultureInfo.InvariantCulture),
            ["split"] = split == MadSplit.Test ? "test" : "train",
            ["seed"] = seed.ToString(CultureInfo.InvariantCulture),
        };
        using var writer = new SafetensorsWriter(path, [new SafetensorsEntry("inputs", SafetensorsType.I32, shape), new SafetensorsEntry("targets", SafetensorsType.I32, shape)], metadata);
        writer.Write<int>("inputs", examples.Inputs);
        writer.Write<int>("targets", examples.Targets);
        writer.Commit();
    }
}
