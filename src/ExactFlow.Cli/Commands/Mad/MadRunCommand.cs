using System.CommandLine;
using System.Globalization;
using ExactFlow.Cli.Display;
using ExactFlow.Cli.Parsing;
using ExactFlow.Models.Mad;
using ExactFlow.Training.Experiments;
using ExactFlow.Training.Experiments.Mad;

namespace ExactFlow.Cli.Commands.Mad;

/// <summary><c>exactflow mad run</c>: trains every mixer on every task, at every point of the sweep.</summary>
internal static class MadRunCommand
{
    private static readonly string[] TaskNames = [.. MadTaskKind.All.Select(task => task.Name)];
    private static readonly string[] MixerNames = [.. MadMixer.All.Select(mixer => mixer.Name)];

    /// <summary>Makes the command.</summary>
    public static Command Create(Interruption interruption)
    {
        var defaults = new MadStudy();
        Option<string[]> tasks = Settings.Names("--tasks", "the tasks; all = MAD's six", ["all"], ["all", .. TaskNames]);
        Option<string[]> mixers = Settings.Names("--mixers", "what mixes tokens", ["efla", "deltanet", "gated_efla", "gated_deltanet", "mamba2", "softmax"], MixerNames);
        Option<string[]> settings = Difficulties();
        Option<double[]> rates = Settings.Numbers("--lr", "learning rates of the sweep", [5e-4, 1e-3, 1e-4], 0, 10);
        Option<double[]> decays = Settings.Numbers("--wd", "weight decays of the sweep", [0, 0.1], 0, 10);
        Option<int> seeds = Settings.Whole("--seeds", "seeds of data, weights and order", 1, 1, 1000);
        Option<ulong> seed = Settings.Seed("the first seed; the others follow it");
        Option<int> epochs = Settings.Whole("--epochs", "passes over the training examples", defaults.Epochs, 1, 100_000);
        Option<int> limit = Settings.Whole("--limit", "the most training examples, and ten times the most test examples; 0 for all", 0, 0);
        Option<int> width = Settings.Whole("--width", "width of the models", defaults.Width, 1, 8192);
        Option<int> layers = Settings.Whole("--layers", "blocks of the models, each of a mixer and an MLP", defaults.Layers, 1, 64);
        Option<int> heads = Settings.Whole("--heads", "heads of the mixers", defaults.Heads, 1, 1024);
        Option<int> batch = Settings.Whole("--batch", "examples per step", defaults.Batch, 1, 65_536);
        Option<double> enough = Settings.Number("--enough", "test accuracy from which on a training goes no further; 1 loses nothing, as the best one counts, and 2 never stops", 1, 0.01, 2);
        Option<double[]> lengths = Lengths("--extrapolate", "lengths to test the trained models at, besides their own");
        Option<string> precision = Settings.Precision();
        var command = new CliCommand("run", "Trains and tests mixers on MAD's tasks: 3 x 2 points of learning rate and weight decay, 200 epochs, the best test accuracy counts. Results are written as they come; the same command goes on.")
        {
            Examples =
            [
                ("exactflow mad run --out mad --device cuda --parallel 12 --seeds 3", "the whole baseline on one GPU, twelve trainings at once"),
                ("exactflow mad run --out quick --tasks in_context_recall --mixers efla,deltanet --lr 1e-3 --wd 0 --epochs 20 --limit 1280", "a glance on a CPU"),
                ("exactflow mad run --out mad --device cuda --parallel 12 --settings full", "the harder settings too, in the same folder: what is finished there is not done again"),
                ("exactflow mad run --out mad --device cuda --parallel 12 --tasks memorization,compression --settings vocab", "only some of them: greater vocabularies"),
                ("exactflow mad run --out state --tasks parity,s5 --mixers efla,cayley,deltanet,deltanet_negative --extrapolate 256,512,1024,2048,4096 --device cuda", "state tracking, and what becomes of it at greater lengths"),
            ],
        };
        foreach (Option option in (Option[])[tasks, mixers, settings, rates, decays, seeds, seed, epochs, limit, width, layers, heads, batch, enough, lengths, precision])
        {
            command.Options.Add(option);
        }

        StudyOptions common = StudyOptions.AddTo(command);
        command.SetAction(parsed =>
        {
            var study = new MadStudy
            {
                Epochs = parsed.GetValue(epochs), Limit = parsed.GetValue(limit), Width = parsed.GetValue(width), Layers = parsed.GetValue(layers), Heads = parsed.GetValue(heads),
                Batch = parsed.GetValue(batch), EnoughAccuracy = parsed.GetValue(enough), Precision = parsed.GetRequiredValue(precision), Extrapolation = [.. parsed.GetRequiredValue(lengths).Select(length => (int)length)],
            };
            IReadOnlyList<MadPoint> points = MadStudy.Points(
                TasksOf(parsed.GetRequiredValue(tasks)), [.. parsed.GetRequiredValue(mixers).Select(MadMixer.Parse)], parsed.GetRequiredValue(settings),
                parsed.GetRequiredValue(rates), parsed.GetRequiredValue(decays), parsed.GetValue(seeds), parsed.GetValue(seed));
            return Run(interruption, common, parsed, study, points);
        });
        return command;
    }

    /// <summary><c>--settings</c>.</summary>
    private static Option<string[]> Difficulties() => Settings.Names(
        "--settings", $"how hard the tasks are made: {MadSettings.Baseline}; the harder settings in which one thing differs from it; or {MadTaskKind.Full} for all of them",
        [MadSettings.Baseline], [MadSettings.Baseline, MadTaskKind.Full, .. MadSettings.Variables]);

    /// <summary>Lengths separated by commas, none twice.</summary>
    private static Option<double[]> Lengths(string name, string description)
    {
        Option<double[]> lengths = Settings.Numbers(name, description, [], 2, 1 << 20);
        lengths.Validators.Add(result =>
        {
            // The words themselves: asking for the value of an option that cannot be parsed throws.
            string? broken = result.Tokens.SelectMany(token => token.Value.Split(',')).FirstOrDefault(text => double.TryParse(text, CultureInfo.InvariantCulture, out double length) && length != Math.Floor(length));
            if (broken is not null)
            {
                result.AddError($"{name} takes whole numbers of tokens separated by commas, but one is '{broken}'");
            }
        });
        return lengths;
    }

    private static IReadOnlyList<MadTaskKind> TasksOf(string[] names)
        => [.. MadTaskKind.All.Where(task => names.Contains(task.Name) || (task.IsOfMad && names.Contains("all")))];

    private static int Run(Interruption interruption, StudyOptions common, ParseResult parsed, MadStudy study, IReadOnlyList<MadPoint> points)
    {
        // Whatever cannot be is found here, before anything is opened or written.
        IReadOnlyList<StudyRun<MadResult>> runs = study.Runs(points);
        IReadOnlyList<Func<Tensors.Device>> devices = common.Devices(parsed);
        using StudyFolder<MadResult> folder = StudyFolder<MadResult>.Open(common.Output(parsed), MadStudy.Name, study);
        bool isFinished;
        using (StudyDisplay display = StudyDisplay.Create(common.WantsJson(parsed)))
        {
            isFinished = new StudyRunner<MadResult>(folder, runs, devices, MadStudy.Summarize, display).Run(interruption.StopCleanly());
        }

        MadReportFiles.Write(folder.Path, folder.Records, CommandText.Of(parsed));
        HashSet<string> asked = runs.Select(run => run.Name).ToHashSet(StringComparer.Ordinal);
        if (common.WantsJson(parsed))
        {
            JsonOutput.Write(new { IsFinished = isFinished, Results = folder.Records.Where(record => asked.Contains(record.Run)).Select(record => new { record.Run, record.Seconds, record.Result }) });
        }
        else
        {
            Console.WriteLine(new MadReport(folder.Records.Select(record => record.Result)).Markdown());
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{Path.Combine(folder.Path, MadReportFiles.Page)}: {folder.Records.Count} trainings"));
        }

        return isFinished ? ExitCode.Success : ExitCode.Interrupted;
    }
}
