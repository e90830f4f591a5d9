using System.CommandLine;
using System.Globalization;
using ExactFlow.Cli.Display;
using ExactFlow.Cli.Parsing;
using ExactFlow.Models;
using ExactFlow.Tensors;
using ExactFlow.Training;
using ExactFlow.Training.Benchmarks;
using ExactFlow.Training.Data;
using ExactFlow.Training.Options;
using ExactFlow.Training.Report;

namespace ExactFlow.Cli.Commands;

/// <summary><c>exactflow compare</c>, the main job: language models side by side, equal but for the rule.</summary>
internal static class CompareCommand
{
    /// <summary>Makes the command.</summary>
    public static Command Create(Interruption interruption)
    {
        var defaults = new ComparisonOptions();
        Option<string[]> rules = Settings.Names("--rules", "what to compare", defaults.Rules, [.. MixerKind.All.Select(mixer => mixer.Name)]);
        Option<int> seed = Settings.Whole("--seed", "the first seed; decides initial weights, data order and samples", defaults.Seeds[0], 0);
        Option<int[]> seeds = Settings.Seeds("--seeds", "how many seeds, counted up from --seed, or the seeds themselves separated by commas; with several, the table shows mean ± standard deviation", seed);
        var command = new CliCommand("compare", "Trains language models side by side on the same text, equal in everything but the rule, and shows what came of it: a table, samples, and a report page.")
        {
            Examples =
            [
                ("exactflow compare", "the exact flow against the delta rule on the documentation of .NET, about three minutes on two cores"),
                ("exactflow compare --rules efla,gated_efla,mamba2,softmax_attention --text books/ --name books", "four mixers on texts of your own"),
                ("exactflow compare --seeds 3 --steps 500 --name seeds", "with spread over seeds"),
                ("exactflow compare --set training.optimizer.learning_rate=1e-2 --name hot", "at another learning rate"),
            ],
            Settings = RecipeOptions.Describe<ComparisonOptions>(),
        };
        command.Options.Add(rules);
        RecipeOptions recipe = RecipeOptions.AddTo(command);
        command.Options.Add(seeds);
        command.Options.Add(seed);
        CommonOptions common = CommonOptions.AddTo(command);
        command.SetAction(parsed =>
        {
            var shortForms = new List<string>();
            if (parsed.GetResult(rules) is { Implicit: false })
            {
                shortForms.Add($"rules={string.Join(',', parsed.GetValue(rules)!)}");
            }

            if (parsed.GetResult(seeds) is { Implicit: false })
            {
                shortForms.Add($"seeds={string.Join(',', parsed.GetRequiredValue(seeds))}");
            }
            else if (parsed.GetResult(seed) is { Implicit: false })
            {
                shortForms.Add(string.Create(CultureInfo.InvariantCulture, $"seeds={parsed.GetValue(seed)}"));
            }

            ComparisonOptions options = recipe.Load<ComparisonOptions>(parsed, shortForms);
            options = options with { Training = recipe.Apply(parsed, options.Training) };
            return Run(parsed, common, options, recipe.FolderOf(parsed, options.Name), interruption.StopCleanly());
        });
        return command;
    }

    private static int Run(ParseResult parsed, CommonOptions common, ComparisonOptions options, string folder, CancellationToken cancellation)
    {
        bool wantsJson = common.WantsJson(parsed);
        ComparisonDisplay observer;
        ComparisonResult? result;
        string report;
        using (TrainingDisplay display = TrainingDisplay.Create(wantsJson))
        {
            double rate;
            string? gpu;
            using (Device device = common.Open(parsed))
            {
                rate = DeviceCeiling.MatrixProductFlops(device, ModelPrecision.On(device, options.Training.Model.Precision));
                gpu = CommonOptions.Describe(device);
            }

            observer = new ComparisonDisplay(display, options.Seeds.Length > 1);
            display.Say("reading the text");
            DataOptions data = options.Training.Data;
            TextCorpus text = TextSource.Load(data);
            display.Say(text.ToString());
            result = new Comparison(options, text, folder, observer, parsed.GetRequiredValue(common.Threads), rate, () => common.Open(parsed)).Run(cancellation);
            if (result is null)
            {
                display.Say("stopped, each run with a checkpoint; the same command continues");
                return ExitCode.Interrupted;
            }

            report = RunReport.Write(folder, options, result, text.ToString(), CommandText.Of(parsed), gpu);
        }

        if (wantsJson)
        {
            JsonOutput.Write(new { options.Name, Folder = folder, Report = report, Result = result });
            return ExitCode.Success;
        }

        ComparisonTable.Write(result);
        foreach ((string run, SampleText sample) in observer.LastSamples)
        {
            Console.WriteLine($"{run} continues \"{sample.Prompt}\": {sample.Text.ReplaceLineEndings(" ").Trim()}");
        }

        Console.WriteLine($"\n{report} has the curves.");
        return ExitCode.Success;
    }
}
