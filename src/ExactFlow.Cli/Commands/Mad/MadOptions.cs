using System.CommandLine;
using System.Globalization;
using ExactFlow.Cli.Parsing;
using ExactFlow.Training.Experiments.Mad;

namespace ExactFlow.Cli.Commands.Mad;

/// <summary>Options and words of several of the commands.</summary>
internal static class MadOptions
{
    /// <summary><c>--settings</c>.</summary>
    public static Option<string[]> Difficulties() => Settings.Names(
        "--settings", $"how hard the tasks are made: {MadSettings.Baseline}; the harder settings in which one thing differs from it; or {MadTaskKind.Full} for all of them",
        [MadSettings.Baseline], [MadSettings.Baseline, MadTaskKind.Full, .. MadSettings.Variables]);

    /// <summary>Lengths separated by commas, none twice.</summary>
    public static Option<double[]> Lengths(string name, string description)
    {
        Option<double[]> lengths = Settings.Numbers(name, description, [], 2, 1 << 20);
        lengths.Validators.Add(result =>
        {
            double[] odd = [.. result.GetValueOrDefault<double[]>().Where(length => length != Math.Floor(length))];
            if (odd.Length > 0)
            {
                result.AddError(string.Create(CultureInfo.InvariantCulture, $"{name} takes whole numbers of tokens separated by commas, but one is {odd[0]}"));
            }
        });
        return lengths;
    }

    /// <summary>The task, as the word after the command.</summary>
    public static Argument<string> Task()
    {
        var task = new Argument<string>("task") { Description = $"the task, one of {string.Join(", ", MadTaskKind.All)}", HelpName = "TASK" };
        return task;
    }

    /// <summary>Options that change a task's settings, and what makes settings of them.</summary>
    public static Func<ParseResult, MadTaskKind, MadSettings> AddSettings(Command command)
    {
        Option<int?> vocabulary = Settings.OptionalWhole("--vocab", "tokens of the vocabulary", 1);
        Option<int?> length = Settings.OptionalWhole("--length", "tokens of a sequence", 1, 1 << 20);
        Option<double?> noise = new("--noise") { Description = "noisy recall: probability that noise takes the place of a pair", HelpName = "X" };
        Option<int?> copies = Settings.OptionalWhole("--copy", "selective copying: tokens to copy", 1);
        Option<int?> motif = Settings.OptionalWhole("--motif", "fuzzy recall: the most tokens of a key, and of a value", 1, 16);
        foreach (Option option in (Option[])[vocabulary, length, noise, copies, motif])
        {
            command.Options.Add(option);
        }

        return (parsed, kind) => kind.Baseline with
        {
            Vocabulary = parsed.GetValue(vocabulary) ?? kind.Baseline.Vocabulary,
            Length = parsed.GetValue(length) ?? kind.Baseline.Length,
            Noise = parsed.GetValue(noise) ?? kind.Baseline.Noise,
            Copies = parsed.GetValue(copies) ?? kind.Baseline.Copies,
            Motif = parsed.GetValue(motif) ?? kind.Baseline.Motif,
        };
    }

    /// <summary><c>--split</c>.</summary>
    public static Option<string> Split() => Settings.Choice("--split", "training asks for the whole sequence where test asks for some of it", "train", ["train", "test"]);

    /// <summary>The split of a name.</summary>
    public static MadSplit SplitOf(string name) => name == "test" ? MadSplit.Test : MadSplit.Train;
}
