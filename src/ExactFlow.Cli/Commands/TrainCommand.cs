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
using ExactFlow.Training.Runs;

namespace ExactFlow.Cli.Commands;

/// <summary><c>exactflow train</c>: one language model from a recipe.</summary>
internal static class TrainCommand
{
    private const string NewRun = "none";

    /// <summary>Makes the command.</summary>
    public static Command Create(Interruption interruption)
    {
        Option<string> rule = Settings.Choice("--rule", "mixer of every layer", "efla", [.. MixerKind.All.Select(mixer => mixer.Name)]);
        Option<int?> seed = Settings.OptionalWhole("--seed", "decides initial weights, data order and samples", 0);
        var resume = new Option<string>("--resume")
        {
            Description = "auto = continue the run from its newest checkpoint, or begin it; none = only begin; otherwise the checkpoint to continue from",
            HelpName = "auto|none|CHECKPOINT",
            DefaultValueFactory = _ => NewRun,
        };
        var command = new CliCommand("train", "Trains one language model. Ctrl-C stops with a checkpoint; a run that was stopped or killed and resumed gives the same weights bit for bit.")
        {
            Examples =
            [
                ("exactflow train --name first --text book.txt --steps 500", "train EFLA on a text"),
                ("exactflow train --name first --text book.txt --steps 500 --resume auto", "continue after Ctrl-C or a crash"),
                ("exactflow train --config recipe.json --set optimizer.learning_rate=1e-3 --set name=second", "a recipe with two settings changed"),
            ],
            Settings = RecipeOptions.Describe<TrainingOptions>(),
        };
        command.Options.Add(rule);
        RecipeOptions recipe = RecipeOptions.AddTo(command);
        command.Options.Add(seed);
        command.Options.Add(resume);
        CommonOptions common = CommonOptions.AddTo(command);
        command.SetAction(parsed =>
        {
            using Device device = common.Open(parsed);
            List<string> shortForms = [];
            if (parsed.GetResult(rule) is { Implicit: false })
            {
                shortForms.Add($"model.rule={parsed.GetValue(rule)}");
            }

            if (parsed.GetValue(seed) is { } chosen)
            {
                shortForms.Add(string.Create(CultureInfo.InvariantCulture, $"seed={chosen}"));
            }

            TrainingOptions options = recipe.Apply(parsed, recipe.Load<TrainingOptions>(parsed, shortForms));
            return Run(device, options, recipe.FolderOf(parsed, options.Name), parsed.GetRequiredValue(resume), parsed, parsed.GetRequiredValue(common.Threads), common.WantsJson(parsed), interruption.StopCleanly());
        });
        return command;
    }

    private static int Run(Device device, TrainingOptions options, string folder, string resume, ParseResult parsed, int threads, bool wantsJson, CancellationToken cancellation)
    {
        if (resume == NewRun)
        {
            RunFolder.RequireUnused(folder);
        }

        DType precision = ModelPrecision.On(device, options.Model.Precision);
        SeedResult result;
        int steps;
        using (TrainingDisplay display = TrainingDisplay.Create(wantsJson))
        {
            display.Say("reading the text");
            TextCorpus text = TextSource.Load(options.Data);
            if (options.Data is { Tokenizer: null, Packed: null })
            {
                // The tokenizer is trained and kept there; everything else that may be refused leaves no folder.
                Directory.CreateDirectory(folder);
            }

            TokenizedText tokenized = TokenizedText.Prepare(options.Data, text, Path.Combine(folder, "tokenizer.json"), options.Seed, threads);
            display.Say(string.Create(CultureInfo.InvariantCulture, $"{text.ToString()}: {tokenized.Training.TokenCount:#,0} tokens to learn, {tokenized.ValidationIds.Length:#,0} held out"));
            double rate = DeviceCeiling.MatrixProductFlops(device, precision);
            using var run = new LanguageModelRun(options, tokenized, device, folder, display.Observe(options.Model.Rule), rate);
            Begin(run, resume);
            bool isFinished = run.Trainer.Run(cancellation);
            RunReport.Write(folder, options, text.ToString(), CommandText.Of(parsed), CommonOptions.Describe(device));
            if (!isFinished)
            {
                display.Say($"stopped after step {run.Trainer.StepsDone} with a checkpoint; continue with --resume auto");
                return ExitCode.Interrupted;
            }

            display.Say("scoring the whole validation text");
            result = run.Measure();
            steps = run.Trainer.StepsDone;
        }

        if (wantsJson)
        {
            JsonOutput.Write(new { options.Name, Folder = folder, Steps = steps, Result = result });
            return ExitCode.Success;
        }

        Console.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"validation loss {result.ValidationLoss:0.0000}, perplexity {result.Perplexity:0.00}, {result.BitsPerByte:0.0000} bits per byte, {result.TokensPerSecond:#,0} tok/s, {Units.Bytes(result.PeakBytes)} at most"));
        Console.WriteLine($"{folder}: exactflow generate --model {folder} continues a prompt");
        return ExitCode.Success;
    }

    private static void Begin(LanguageModelRun run, string resume)
    {
        if (resume == NewRun)
        {
            // Again, now that the folder is ours.
            RunFolder.RequireUnused(run.Folder.FullPath);
            run.Trainer.Begin();
        }
        else
        {
            run.Trainer.Resume(resume);
        }
    }
}
