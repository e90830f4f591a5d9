using System.Globalization;
using System.Text;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Files;
using ExactFlow.Training.Report;

namespace ExactFlow.Training.Experiments.SequentialMnist;

/// <summary>What a study of sequential MNIST found: a page, figures as in the paper, tables in Markdown.</summary>
public static class SequentialMnistReport
{
    private const string Percent = "F1", Nats = "F3";

    /// <summary>Writes <c>report.html</c>, the figures and <c>summary.md</c> into the study's folder.</summary>
    /// <param name="folder">The study's folder.</param>
    /// <param name="command">The command that makes the report.</param>
    /// <returns>The files written.</returns>
    /// <exception cref="InvalidInputException">The folder holds no such study, or no run is finished.</exception>
    public static IReadOnlyList<string> Write(string folder, string command)
    {
        IReadOnlyList<StudyRecord<SequentialMnistResult>> records = SequentialMnistStudy.Read(folder);
        if (records.Count == 0)
        {
            throw new InvalidInputException($"No run of the study in '{folder}' is finished yet: wait for the first, or run 'exactflow smnist run' with this folder.");
        }

        var groups = new SequentialMnistGroups([.. records.Select(record => record.Result)]);
        var written = new List<string>();
        foreach ((string file, LineChart chart) in Charts(groups))
        {
            SvgFigure.Write(Path(file), chart);
            written.Add(Path(file));
        }

        AtomicFile.WriteAllText(Path("summary.md"), Summary(groups));
        HtmlReport.Write(Path("report.html"), Page(groups, records, command));
        return [Path("report.html"), Path("summary.md"), .. written];

        string Path(string file) => System.IO.Path.Combine(folder, file);
    }

    /// <summary>Names of figures and what they show, in the order of the page.</summary>
    private static IEnumerable<(string File, LineChart Chart)> Charts(SequentialMnistGroups groups)
    {
        yield return ("loss.svg", groups.LossCurves());
        foreach ((string file, string title, string label, IReadOnlyList<double> levels, Func<SequentialMnistResult, double[]> curve) in groups.Disturbances)
        {
            yield return (file, groups.RobustnessCurves(title, label, levels, curve));
        }

        yield return ("accuracy-by-rate.svg", groups.ByRate("Accuracy by learning rate", "accuracy, %", result => result.Accuracy * 100));
        yield return ("loss-by-rate.svg", groups.ByRate("Loss by learning rate", "mean loss of the last 50 steps, nats", result => result.FinalLoss));
    }

    private static string Summary(SequentialMnistGroups groups)
    {
        var text = new StringBuilder();
        text.Append("Clean accuracy in % / mean loss of the last 50 steps, mean ± standard deviation over seeds:\n\n");
        text.Append(MarkdownTable.Render(
            ["rule", .. groups.Rates.Select(Rate)],
            groups.Rules.Select(rule => (IReadOnlyList<string>)[rule.Name, .. groups.Rates.Select(rate => Cell(groups, rule.Name, rate))])));
        text.Append("\nAt each rule's best learning rate (by loss) and, for DeltaNet and EFLA, at those of the paper; accuracy in %:\n\n");
        text.Append(MarkdownTable.Render(RobustnessColumns, groups.Selected.Select(group => RobustnessCells(group))));
        return text.ToString();
    }

    private static readonly string[] RobustnessColumns =
        ["rule, learning rate", "clean", "intensity x 2", "x 5", "x 10", "noise 0.2", "0.5", "1", "dropout 0.2", "0.5", "0.8"];

    private static string[] RobustnessCells(SequentialMnistGroup group) =>
    [
        $"{group.Rule.Name}, {Rate(group.Rate)}",
        group.Percent(result => result.Accuracy),
        .. new[] { 1, 4, 9 }.Select(level => group.Percent(result => result.Intensity[level])),
        .. new[] { 2, 5, 10 }.Select(level => group.Percent(result => result.Noise[level])),
        .. new[] { 2, 5, 8 }.Select(level => group.Percent(result => result.Dropout[level])),
    ];

    private static string Cell(SequentialMnistGroups groups, string rule, double rate)
        => groups.Find(rule, rate) is { } group ? $"{group.Percent(result => result.Accuracy)} / {group.Statistic(result => result.FinalLoss).ToString(Nats)}" : "";

    private static string Rate(double rate) => rate.ToString("0e+0", CultureInfo.InvariantCulture).Replace("e-0", "e-", StringComparison.Ordinal);

    private static ReportPage Page(SequentialMnistGroups groups, IReadOnlyList<StudyRecord<SequentialMnistResult>> records, string command) => new()
    {
        Title = "Sequential MNIST",
        Subtitle = $"{records.Count} runs: {groups.Rules.Count} rules, {groups.Rates.Count} learning rates, up to {groups.MostSeeds} seeds; 784 tokens of one pixel, one head of 64, read out once",
        Command = command,
        Columns = ["rule", .. groups.Rates.Select(Rate)],
        Rows = [.. groups.Rules.Select((rule, index) => new ReportRow(index, [new(rule.Name), .. groups.Rates.Select(rate => new ReportCell(Cell(groups, rule.Name, rate)))]))],
        Notes = ["Accuracy on undisturbed test images in % / mean loss of the last 50 training steps, by learning rate; mean ± standard deviation over seeds.", .. groups.Rules.Select(rule => $"{rule.Name}: {rule.Description}.")],
        Tables =
        [
            new ReportTable(
                "Robustness", "Accuracy in %, at each rule's best learning rate (by loss), and for EFLA and DeltaNet at those of the paper.",
                RobustnessColumns, [.. groups.Selected.Select(group => new ReportRow(group.Color, [.. RobustnessCells(group).Select(cell => new ReportCell(cell))]))]),
        ],
        Charts = [.. Charts(groups).Select(chart => chart.Chart)],
        Facts =
        [
            new("devices", string.Join("; ", records.Select(record => record.Device).Distinct())),
            new("commits", string.Join("; ", records.Select(record => record.Commit ?? "unknown").Distinct())),
            new("time of all runs", $"{records.Sum(record => record.Seconds):N0} s, of which several may have run at once"),
        ],
    };
}
