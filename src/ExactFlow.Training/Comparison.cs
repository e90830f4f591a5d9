using System.Diagnostics;
using ExactFlow.Models;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Files;
using ExactFlow.Training.Data;
using ExactFlow.Training.Options;

namespace ExactFlow.Training;

/// <summary>
/// Trains several rules on the same text: the same windows in the same order, the same initial weights where shapes agree (each parameter draws from a stream
/// named after it), everything equal but the rule. The rules of a seed take turns every few steps; seeds follow one another.
/// Every run has a folder of its own and resumes by itself, so a comparison that was stopped goes on where it was.
/// </summary>
public sealed class Comparison
{
    private readonly ComparisonOptions options;
    private readonly TextCorpus text;
    private readonly string folder;
    private readonly int threads;
    private readonly Func<Device> openDevice;
    private readonly double machineFlopsPerSecond;
    private readonly IComparisonObserver observer;

    /// <summary>Checks what can be checked before any work.</summary>
    /// <param name="options">What to compare.</param>
    /// <param name="text">Training and validation text.</param>
    /// <param name="folder">Where everything is written; made if need be.</param>
    /// <param name="observer">Is told what happens.</param>
    /// <param name="threads">Threads of the CPU, also of each model's device when it is the CPU (they never run at the same time), 0 for all.</param>
    /// <param name="machineFlopsPerSecond">Measured matrix-product rate, or 0.</param>
    /// <param name="openDevice">Opens a device for each model, or null for the CPU.</param>
    /// <exception cref="InvalidInputException">A rule is unknown or given twice, or there are no rules or seeds.</exception>
    public Comparison(ComparisonOptions options, TextCorpus text, string folder, IComparisonObserver observer, int threads = 0, double machineFlopsPerSecond = 0, Func<Device>? openDevice = null)
    {
        this.options = options ?? throw new ArgumentNullException(nameof(options));
        this.text = text ?? throw new ArgumentNullException(nameof(text));
        this.folder = Path.GetFullPath(folder);
        this.observer = observer ?? throw new ArgumentNullException(nameof(observer));
        this.threads = threads;
        this.machineFlopsPerSecond = machineFlopsPerSecond;
        this.openDevice = openDevice ?? (() => new CpuDevice(threads));
        foreach (string rule in options.Rules)
        {
            MixerKind.Parse(rule);
        }

        if (options.Rules.Length == 0 || options.Seeds.Length == 0
            || options.Rules.Distinct(StringComparer.Ordinal).Count() < options.Rules.Length || options.Seeds.Distinct().Count() < options.Seeds.Length)
        {
            throw new InvalidInputException(
                $"A comparison needs rules and seeds, none of them twice, but it was given rules '{string.Join(",", options.Rules)}' and seeds '{string.Join(",", options.Seeds)}'.");
        }
    }

    /// <summary>Trains, measures and writes <c>comparison.json</c> and <c>results.json</c>.</summary>
    /// <param name="stop">Asks to stop: every run writes a checkpoint, and the next call goes on.</param>
    /// <returns>The results, or null when it was stopped.</returns>
    /// <exception cref="InvalidInputException">The text is too short, a recipe does not fit, the disk is full, or a run diverged.</exception>
    public ComparisonResult? Run(CancellationToken stop)
    {
        long start = Stopwatch.GetTimestamp();
        Directory.CreateDirectory(folder);
        AtomicFile.WriteAllText(Path.Combine(folder, "comparison.json"), OptionsJson.Write(options));
        observer.OnStage("learning the tokenizer and encoding the text");
        TokenizedText tokenized = TokenizedText.Prepare(
            options.Training.Data, text, Path.Combine(folder, "tokenizer.json"), options.Training.Seed, threads);
        observer.OnText(tokenized);

        var measured = new Dictionary<string, List<SeedResult>>(StringComparer.Ordinal);
        var parameters = new Dictionary<string, long>(StringComparer.Ordinal);
        foreach (int seed in options.Seeds)
        {
            if (!RunSeed(seed, tokenized, measured, parameters, stop))
            {
                return null;
            }
        }

        observer.OnStage("compressing the validation text with Brotli");
        var result = new ComparisonResult
        {
            Rules = [.. options.Rules.Select(rule => new RuleResult { Rule = rule, Parameters = parameters[rule], Seeds = measured[rule] })],
            BrotliBitsPerByte = BrotliBaseline.BitsPerByte(text.Validation.Span),
            ValidationBytes = text.Validation.Length,
            TrainingTokens = tokenized.Training.TokenCount,
            Seconds = Stopwatch.GetElapsedTime(start).TotalSeconds,
        };
        AtomicFile.WriteAllText(Path.Combine(folder, "results.json"), OptionsJson.Write(result));
        return result;
    }

    /// <summary>The folder of one run of this comparison.</summary>
    public string FolderOf(string rule, int seed) => Path.Combine(folder, $"{rule}-seed{seed}");

    private bool RunSeed(int seed, TokenizedText tokenized, Dictionary<string, List<SeedResult>> measured, Dictionary<string, long> parameters, CancellationToken stop)
    {
        var runs = new List<LanguageModelRun>();
        try
        {
            foreach (string rule in options.Rules)
            {
                TrainingOptions recipe = options.Training with { Name = $"{rule}-seed{seed}", Seed = seed, Model = options.Training.Model with { Rule = rule } };
                var run = new LanguageModelRun(recipe, tokenized, openDevice(), FolderOf(rule, seed), observer.Observe(rule, seed), machineFlopsPerSecond);
                runs.Add(run);
                run.Trainer.Resume("auto");
            }

            TakeTurns(runs, stop);
            if (runs.Exists(run => !run.Trainer.IsFinished))
            {
                return false;
            }

            observer.OnStage("scoring the whole validation text");
            foreach (LanguageModelRun run in runs)
            {
                string rule = run.Options.Model.Rule;
                parameters[rule] = run.Task.Model.ParameterCount;
                if (!measured.TryGetValue(rule, out List<SeedResult>? results))
                {
                    measured.Add(rule, results = []);
                }

                results.Add(run.Measure());
            }

            return true;
        }
        finally
        {
            runs.ForEach(run => run.Dispose());
        }
    }

    private void TakeTurns(List<LanguageModelRun> runs, CancellationToken stop)
    {
        observer.OnStage("training");
        while (!stop.IsCancellationRequested && runs.Exists(run => !run.Trainer.IsFinished))
        {
            // A resumed run may be behind or ahead of the others: who is behind goes first, until they are level.
            int limit = runs.Min(run => run.Trainer.StepsDone) + options.Turn;
            foreach (LanguageModelRun run in runs)
            {
                while (!run.Trainer.IsFinished && run.Trainer.StepsDone < limit && !stop.IsCancellationRequested)
                {
                    run.Trainer.RunStep();
                }
            }
        }

        foreach (LanguageModelRun run in runs)
        {
            run.Trainer.Stop();
        }
    }
}
