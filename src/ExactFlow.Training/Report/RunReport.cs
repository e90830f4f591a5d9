using System.Globalization;
using ExactFlow.Training.Options;
using ExactFlow.Training.Runs;

namespace ExactFlow.Training.Report;

/// <summary>Report pages of comparisons and single runs, from their folders.</summary>
public static class RunReport
{
    private static readonly string[] Columns = ["rule", "parameters", "validation loss", "perplexity", "bits per byte", "tokens/s", "peak memory"];

    /// <summary>Writes <c>report.html</c> of a comparison into its folder.</summary>
    /// <param name="folder">The comparison's folder.</param>
    /// <param name="options">What was compared.</param>
    /// <param name="result">What came out.</param>
    /// <param name="textDescription">The text in a line.</param>
    /// <param name="command">The command that made it.</param>
    /// <returns>The page's path.</returns>
    public static string Write(string folder, ComparisonOptions options, ComparisonResult result, string textDescription, string command, string? gpu = null)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(result);
        string[] folders(string rule) => [.. options.Seeds.Select(seed => Path.Combine(folder, $"{rule}-seed{seed}"))];
        string path = Path.Combine(folder, "report.html");
        HtmlReport.Write(path, new ReportPage
        {
            Title = string.Join(", ", options.Rules),
            Subtitle = Subtitle(options.Training, options.Seeds),
            Command = command,
            Columns = Columns,
            Rows = [.. result.Rules.Select(Row), BrotliRow(result)],
            Notes = Notes(options, result),
            Runs = [.. options.Rules.Select(rule => Run(rule, folders(rule)))],
            Facts = Facts(result, textDescription, gpu),
            Settings = OptionsJson.Write(options),
        });
        return path;
    }

    /// <summary>Writes <c>report.html</c> of a single run, finished or not, into its folder.</summary>
    /// <returns>The page's path.</returns>
    public static string Write(string folder, TrainingOptions options, string textDescription, string command, string? gpu = null)
    {
        ArgumentNullException.ThrowIfNull(options);
        string path = Path.Combine(folder, "report.html");
        HtmlReport.Write(path, new ReportPage
        {
            Title = options.Name,
            Subtitle = Subtitle(options, [options.Seed]),
            Command = command,
            Runs = [Run(options.Model.Rule, [folder])],
            Facts = [new("text", textDescription), new("machine", MachineDescription.Describe(gpu))],
            Settings = OptionsJson.Write(options),
        });
        return path;
    }

    private static string Subtitle(TrainingOptions options, int[] seeds)
    {
        int tokens = options.Data.BatchSize * options.Data.SequenceLength * options.Data.Accumulation;
        return $"{options.Steps:N0} steps of {tokens:N0} tokens; width {options.Model.Hidden}, {options.Model.Layers} layers, {options.Model.Heads} heads; "
            + $"{(seeds.Length == 1 ? "seed" : "seeds")} {string.Join(", ", seeds)}";
    }

    private static ReportRun Run(string rule, string[] folders)
    {
        var read = folders.Select(folder => RunRecords.ReadMetrics(Path.Combine(folder, "metrics.jsonl"))).ToArray();
        return new ReportRun(rule, [.. read.Select(run => run.Curve)], read[0].Samples);
    }

    private static ReportRow Row(RuleResult rule, int index) => new(index,
    [
        new(rule.Rule),
        new(rule.Parameters.ToString("N0", CultureInfo.InvariantCulture)),
        Cell(rule, seed => seed.ValidationLoss, "F3"),
        Cell(rule, seed => seed.Perplexity, "F1"),
        Cell(rule, seed => seed.BitsPerByte, "F3"),
        Cell(rule, seed => seed.TokensPerSecond, "N0"),
        new($"{rule.Seeds.Max(seed => seed.PeakBytes) / 1e6:N0} MB"),
    ]);

    private static ReportCell Cell(RuleResult rule, Func<SeedResult, double> figure, string format)
    {
        double spread = rule.Spread(figure);
        return new ReportCell(
            rule.Mean(figure).ToString(format, CultureInfo.InvariantCulture), double.IsNaN(spread) ? null : spread.ToString(format, CultureInfo.InvariantCulture));
    }

    private static ReportRow BrotliRow(ComparisonResult result)
        => new(-1, [new("Brotli, quality 11"), new("–"), new("–"), new("–"), new(result.BrotliBitsPerByte.ToString("F3", CultureInfo.InvariantCulture)), new("–"), new("–")]);

    private static List<string> Notes(ComparisonOptions options, ComparisonResult result)
    {
        var notes = new List<string>
        {
            $"Validation: the whole held-out text in windows of {options.Training.Data.SequenceLength} tokens that overlap by half; the second half of each is predicted. Brotli compresses the same text, starting from its built-in dictionary.",
        };
        if (options.Seeds.Length > 1)
        {
            notes.Add($"Mean ± standard deviation over {options.Seeds.Length} seeds.");
        }
        else
        {
            notes.Add("One seed: differences of the size that another seed would make mean nothing; compare with --seeds before claiming any.");
        }

        int skipped = result.Rules.Sum(rule => rule.Seeds.Sum(seed => seed.SkippedSteps));
        if (skipped > 0)
        {
            notes.Add($"{skipped} steps were not applied because their loss or gradient was not finite.");
        }

        return notes;
    }

    private static List<KeyValuePair<string, string>> Facts(ComparisonResult result, string textDescription, string? gpu) =>
    [
        new("text", textDescription),
        new("training", $"{result.TrainingTokens:N0} tokens"),
        new("validation", $"{result.ValidationBytes:N0} bytes"),
        new("time", $"{result.Seconds:N0} s"),
        new("machine", MachineDescription.Describe(gpu)),
    ];
}
