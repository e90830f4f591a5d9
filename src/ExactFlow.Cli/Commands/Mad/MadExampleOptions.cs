using System.CommandLine;
using ExactFlow.Cli.Parsing;
using ExactFlow.Training.Experiments.Mad;

namespace ExactFlow.Cli.Commands.Mad;

/// <summary>Which examples a command is about: the task as the word behind it, its difficulty, the split and the seed.</summary>
internal sealed class MadExampleOptions
{
    private readonly Argument<string> task = new("task") { Description = $"the task, one of {string.Join(", ", MadTaskKind.All)}", HelpName = "TASK" };
    private readonly Option<string> split = Settings.Choice("--split", "training asks for the whole sequence where test asks for some of it", "train", ["train", "test"]);
    private readonly Option<ulong> seed = Settings.Seed("seed of the data set");
    private readonly Option<int?> vocabulary = Settings.OptionalWhole("--vocab", "tokens of the vocabulary", 1);
    private readonly Option<int?> length = Settings.OptionalWhole("--length", "tokens of a sequence", 1, 1 << 20);
    private readonly Option<double?> noise = new("--noise") { Description = "noisy recall: probability that noise takes the place of a pair", HelpName = "X" };
    private readonly Option<int?> copies = Settings.OptionalWhole("--copy", "selective copying: tokens to copy", 1);
    private readonly Option<int?> motif = Settings.OptionalWhole("--motif", "fuzzy recall: the most tokens of a key, and of a value", 1, 16);

    private MadExampleOptions()
    {
    }

    /// <summary>Adds the argument and the options to a command.</summary>
    public static MadExampleOptions AddTo(Command command)
    {
        var options = new MadExampleOptions();
        command.Arguments.Add(options.task);
        foreach (Option option in (Option[])[options.split, options.seed, options.vocabulary, options.length, options.noise, options.copies, options.motif])
        {
            command.Options.Add(option);
        }

        return options;
    }

    /// <summary>The task at the difficulty that was asked for, the split and the seed.</summary>
    /// <exception cref="Tensors.InvalidInputException">There is no such task, or it cannot be made so.</exception>
    public (MadTask Task, MadSplit Split, ulong Seed) Read(ParseResult parsed)
    {
        MadTaskKind kind = MadTaskKind.Parse(parsed.GetRequiredValue(task));
        MadTask made = kind.Create(kind.Baseline with
        {
            Vocabulary = parsed.GetValue(vocabulary) ?? kind.Baseline.Vocabulary,
            Length = parsed.GetValue(length) ?? kind.Baseline.Length,
            Noise = parsed.GetValue(noise) ?? kind.Baseline.Noise,
            Copies = parsed.GetValue(copies) ?? kind.Baseline.Copies,
            Motif = parsed.GetValue(motif) ?? kind.Baseline.Motif,
        });
        return (made, parsed.GetRequiredValue(split) == "test" ? MadSplit.Test : MadSplit.Train, parsed.GetValue(seed));
    }
}
