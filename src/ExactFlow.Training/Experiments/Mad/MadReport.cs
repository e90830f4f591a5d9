using System.Globalization;
using ExactFlow.Training.Report;

namespace ExactFlow.Training.Experiments.Mad;

/// <summary>Tables and charts out of a study's results: the best point of the sweep for each seed, and mean and spread over the seeds.</summary>
public sealed class MadReport
{
    /// <summary>Figure 3 of arXiv 2512.12602, in percent, in the order of MAD's tasks: means over the settings of a task, as all published figures of MAD are.</summary>
    private static readonly (string Label, double[] Values)[] Paper =
    [
        ("DeltaNet in the paper", [42.7, 99.9, 99.9, 22.2, 29.9, 99.6]),
        ("EFLA in the paper", [43.8, 100, 100, 22.6, 32.5, 99.8]),
    ];

    private readonly IReadOnlyList<MadResult> results;
    private readonly MadResults best;
    private readonly IReadOnlyList<string> mixers;

    /// <summary>Takes results, in the order in which mixers are to be shown.</summary>
    public MadReport(IEnumerable<MadResult> results)
    {
        this.results = [.. results];
        best = new MadResults(this.results);
        mixers = [.. this.results.Select(result => result.Mixer).Distinct(StringComparer.Ordinal)];
    }

    /// <summary>The tasks that there are results of, MAD's six first.</summary>
    public IReadOnlyList<MadTaskKind> Tasks => [.. MadTaskKind.All.Where(task => results.Any(result => result.Task == task.Name))];

    private MadTaskKind[] OfMad => [.. Tasks.Where(task => task.IsOfMad)];

    private MadTaskKind[] Others => [.. Tasks.Where(task => !task.IsOfMad)];

    /// <summary>What published figures are compared with: the score, or the last epoch where nothing was scored yet.</summary>
    private MadMeasure Published => results.Any(result => result.Outcome.Score is not null) ? MadMeasure.Score : MadMeasure.LastEpoch;

    /// <summary>The best accuracy of each seed over the sweep, in percent; null without results.</summary>
    public MeanAndSpread? Accuracy(string task, string setting, string mixer) => best.Of(task, setting, mixer, MadMeasure.BestEpoch);

    /// <summary>Everything as Markdown.</summary>
    public string Markdown()
    {
        var text = new System.Text.StringBuilder("# MAD\n\nTest accuracy in percent, a mean over classes; the best epoch, where nothing else is said, of the best point of the sweep for each seed; mean and standard deviation over seeds.\n");
        foreach (ReportTable table in AllTables())
        {
            text.Append(CultureInfo.InvariantCulture, $"\n## {table.Title}\n\n");
            text.Append(MarkdownTable.Render(table.Columns, table.Rows.Select(row => (IReadOnlyList<string>)[.. row.Cells.Select(cell => cell.Spread is null ? cell.Text : $"{cell.Text} ± {cell.Spread}")])));
            text.Append(table.Caption.Length == 0 ? "" : $"\n{table.Caption}\n");
        }

        return text.ToString();
    }

    /// <summary>The page.</summary>
    /// <param name="command">The command that made it.</param>
    /// <param name="facts">Machine, commit and the like.</param>
    public ReportPage Page(string command, IReadOnlyList<KeyValuePair<string, string>> facts) => new()
    {
        Title = "MAD: mechanistic architecture benchmark",
        Subtitle = $"{results.Count} trainings, {mixers.Count} mixers, {Tasks.Count} tasks",
        Command = command,
        Tables = [.. AllTables()],
        Charts = [.. DifficultyCharts(), .. LengthCharts(), .. LearningCharts()],
        Figures = [.. new[] { Bars(), MeanBars() }.OfType<BarChart>().Select(bars => new ReportFigure(bars.Title, "Best point of the sweep; bars are means over seeds, whiskers their standard deviation.", SvgFigure.Render(bars)))],
        Facts = facts,
    };

    /// <summary>The bar chart over MAD's tasks at baseline; null without results of them.</summary>
    public BarChart? Bars() => OfMad.Length == 0 ? null : Chart("Baseline settings", "test accuracy, %", (task, mixer) => Accuracy(task.Name, MadSettings.Baseline, mixer));

    /// <summary>The bar chart of the paper's Figure 3, over MAD's tasks, with the paper's bars beside; null without results of harder settings.</summary>
    public BarChart? MeanBars()
    {
        if (!OfMad.Any(task => mixers.Any(mixer => best.HasHarder(task, mixer))))
        {
            return null;
        }

        BarChart ours = Chart("Means over settings, beside the paper", $"test accuracy ({Published.Name}), %", (task, mixer) => best.OverSettings(task, mixer, Published)?.Value);
        return ours with { Series = [.. ours.Series, .. Paper.Select((paper, index) => new BarSeries(paper.Label, PaperValues(paper.Values)) { Color = mixers.Count + index })] };
    }

    /// <summary>Accuracy against each variable of difficulty, one chart per task and variable.</summary>
    public IEnumerable<LineChart> DifficultyCharts()
        => from task in Tasks
           from variable in MadSettings.Variables
           let values = ValuesOf(task, variable)
           where values.Count > 1
           select new LineChart
           {
               Title = $"{task.Name} against {variable}",
               XLabel = variable,
               YLabel = "test accuracy, %",
               LogX = variable != "noise",
               Series = [.. mixers.Select((mixer, index) => Series(mixer, index, values.Select(value => value.Value), values.Select(value => Accuracy(task.Name, value.Setting, mixer))))],
           };

    /// <summary>Accuracy of the trained models at other lengths, one chart per task.</summary>
    public IEnumerable<LineChart> LengthCharts()
        => from task in Tasks
           let lengths = LengthsOf(task.Name)
           where lengths.Length > 0
           select new LineChart
           {
               Title = $"{task.Name} at other lengths",
               Caption = $"Trained at {task.Baseline.Length} tokens, tested at others.",
               XLabel = "tokens",
               YLabel = "test accuracy, %",
               LogX = true,
               Series = [.. mixers.Select((mixer, index) => Series(
                   mixer, index, lengths.Select(length => (double)length).Prepend(task.Baseline.Length), lengths.Select(length => AtLength(task.Name, mixer, length)).Prepend(Accuracy(task.Name, MadSettings.Baseline, mixer))))],
           };

    private BarChart Chart(string title, string label, Func<MadTaskKind, string, MeanAndSpread?> valueOf) => new()
    {
        Title = title,
        YLabel = label,
        Groups = [.. OfMad.Select(task => task.Name)],
        Top = 100,
        Series = [.. mixers.Select((mixer, index) =>
        {
            MeanAndSpread?[] values = [.. OfMad.Select(task => valueOf(task, mixer))];
            return new BarSeries(mixer, [.. values.Select(value => value?.Mean ?? double.NaN)], [.. values.Select(value => value is { Count: > 1 } several ? several.Spread : 0)]) { Color = index };
        })],
    };

    private static ReportCell Cell(MeanAndSpread? value) => value is { } known
        ? new ReportCell(known.Mean.ToString("0.0", CultureInfo.InvariantCulture), known.Count > 1 ? known.Spread.ToString("0.0", CultureInfo.InvariantCulture) : null)
        : new ReportCell("");

    private static ReportRow Row(int run, string head, IEnumerable<ReportCell> cells) => new(run, [new ReportCell(head), .. cells]);

    private static ChartSeries Series(string mixer, int index, IEnumerable<double> x, IEnumerable<MeanAndSpread?> values)
    {
        MeanAndSpread?[] all = [.. values];
        return new ChartSeries(
            mixer, [.. x], [.. all.Select(value => value?.Mean ?? double.NaN)], [.. all.Select(value => value?.Lowest ?? double.NaN)], [.. all.Select(value => value?.Highest ?? double.NaN)])
        { Marked = true, Color = index, Dashed = ReportPalette.IsRepeated(index) };
    }

    private IEnumerable<ReportTable> AllTables()
    {
        if (OfMad.Length > 0)
        {
            yield return TaskTable("Baseline settings", "The best of all epochs.", MadMeasure.BestEpoch);
            yield return TaskTable("Baseline settings after the last epoch", "What training leaves: less than the best epoch where it goes on after a model began to learn its examples by heart.", MadMeasure.LastEpoch);
            yield return PublishedTable();
        }

        if (Others.Length > 0)
        {
            yield return new ReportTable(
                "State tracking", "Parity of the bits so far, and the word problem of S5, at every position.",
                ["mixer", .. Others.Select(task => task.Name)],
                [.. mixers.Select((mixer, index) => Row(index, mixer, Others.Select(task => Cell(Accuracy(task.Name, MadSettings.Baseline, mixer)))))]);
        }

        foreach (MadTaskKind task in Tasks)
        {
            if (LengthsOf(task.Name) is { Length: > 0 } lengths)
            {
                yield return new ReportTable(
                    $"{task.Name} at other lengths", $"Trained at {task.Baseline.Length} tokens; the model after its last epoch, at the best point of the sweep.",
                    ["mixer", .. lengths.Select(length => $"{length}")],
                    [.. mixers.Select((mixer, index) => Row(index, mixer, lengths.Select(length => Cell(AtLength(task.Name, mixer, length)))))]);
            }
        }

        if (results.Any(result => result.Setting != MadSettings.Baseline))
        {
            yield return HarderTable();
        }

        if (results.Count > 0)
        {
            yield return SweepTable();
        }
    }

    private ReportTable TaskTable(string title, string caption, MadMeasure measure) => new(
        title, caption, ["mixer", .. OfMad.Select(task => task.Name), "mean"],
        [.. mixers.Select((mixer, index) => TaskRow(index, mixer, [.. OfMad.Select(task => best.Of(task.Name, MadSettings.Baseline, mixer, measure))], (value, _) => Cell(value)))]);

    /// <summary>What can stand beside published figures, which are means over all settings of a task.</summary>
    private ReportTable PublishedTable()
    {
        MadTaskKind[] tasks = OfMad;
        var rows = new List<ReportRow>();
        for (int i = 0; i < mixers.Count; i++)
        {
            string mixer = mixers[i];
            rows.Add(TaskRow(i, $"{mixer} at baseline", [.. tasks.Select(task => best.Of(task.Name, MadSettings.Baseline, mixer, Published))], (value, _) => Cell(value)));
            if (tasks.Any(task => best.HasHarder(task, mixer)))
            {
                (MeanAndSpread Value, int Covered)?[] means = [.. tasks.Select(task => best.OverSettings(task, mixer, Published))];
                rows.Add(TaskRow(i, $"{mixer} over settings", [.. means.Select(mean => mean?.Value)], (value, task) => new ReportCell(value is null ? "" : $"{value.Value.ToString("0.0")} ({means[task]!.Value.Covered} of {1 + tasks[task].Changes.Count})")));
            }
        }

        rows.AddRange(Paper.Select(paper => TaskRow(-1, paper.Label, [.. PaperValues(paper.Values).Select(value => (MeanAndSpread?)MeanAndSpread.Of([value]))], (value, _) => Cell(value))));
        string measured = Published == MadMeasure.Score
            ? "Scores are counted as the public implementation counts: after the last epoch, and a class that is answered but not asked for in a batch counts as one that is never hit."
            : "Nothing was scored as the public implementation does; the figures are those after the last epoch.";
        return new ReportTable(
            "Beside the paper", $"Published figures of MAD are means over all settings of a task, the baseline and the harder ones. {measured} In brackets: of how many of its settings there are results; a mean over few says little beside the paper's.",
            ["mixer", .. tasks.Select(task => task.Name), "mean"], rows);
    }

    /// <summary>A row of a table over tasks, with the mean over them where none lacks.</summary>
    private static ReportRow TaskRow(int run, string head, IReadOnlyList<MeanAndSpread?> values, Func<MeanAndSpread?, int, ReportCell> cell)
    {
        string mean = values.Any(value => value is null) ? "" : values.Average(value => value!.Value.Mean).ToString("0.0", CultureInfo.InvariantCulture);
        return Row(run, head, [.. values.Select(cell), new ReportCell(mean)]);
    }

    private double[] PaperValues(double[] values)
    {
        MadTaskKind[] all = [.. MadTaskKind.All.Where(task => task.IsOfMad)];
        return [.. OfMad.Select(task => values[Array.IndexOf(all, task)])];
    }

    private ReportTable HarderTable()
    {
        (string Task, string Setting)[] settings = [.. results.Where(result => result.Setting != MadSettings.Baseline).Select(result => (result.Task, result.Setting)).Distinct()];
        return new ReportTable(
            "Harder settings", "", ["setting", .. mixers],
            [.. settings.Select(setting => Row(-1, $"{setting.Task} {setting.Setting}", mixers.Select(mixer => Cell(Accuracy(setting.Task, setting.Setting, mixer)))))]);
    }

    private ReportTable SweepTable()
    {
        (double Rate, double Decay)[] points = [.. results.Select(result => (result.LearningRate, result.WeightDecay)).Distinct().Order()];
        return new ReportTable(
            "Sweep", "Each point on its own, at baseline: how much the learning rate matters to each.",
            ["task and mixer", .. points.Select(point => FormattableString.Invariant($"lr {point.Rate}, wd {point.Decay}"))],
            [.. from task in Tasks
                from mixer in mixers.Select((name, index) => (Name: name, Index: index))
                select Row(mixer.Index, $"{task.Name} {mixer.Name}", points.Select(point => Cell(AtPoint(task.Name, mixer.Name, point.Rate, point.Decay))))]);
    }

    private MeanAndSpread? AtPoint(string task, string mixer, double rate, double decay)
    {
        double[] values = [.. results.Where(result => result.Task == task && result.Mixer == mixer && result.Setting == MadSettings.Baseline && result.LearningRate == rate && result.WeightDecay == decay)
            .Select(result => 100 * result.Outcome.Accuracy)];
        return values.Length == 0 ? null : MeanAndSpread.Of(values);
    }

    private int[] LengthsOf(string task)
        => [.. results.Where(result => result.Task == task && result.Setting == MadSettings.Baseline).SelectMany(result => result.Outcome.Extrapolation).Select(tested => tested.Length).Distinct().Order()];

    private MeanAndSpread? AtLength(string task, string mixer, int length)
    {
        double[] values = [.. best.BestOfSeeds(task, MadSettings.Baseline, mixer, MadMeasure.BestEpoch).SelectMany(result => result.Outcome.Extrapolation).Where(tested => tested.Length == length).Select(tested => 100 * tested.Accuracy)];
        return values.Length == 0 ? null : MeanAndSpread.Of(values);
    }

    /// <summary>The values of a variable that there are results of, the baseline's among them.</summary>
    private List<(double Value, string Setting)> ValuesOf(MadTaskKind task, string variable)
    {
        string prefix = variable + "=";
        List<(double Value, string Setting)> values = [.. results.Where(result => result.Task == task.Name && result.Setting.StartsWith(prefix, StringComparison.Ordinal) && !result.Setting.Contains(' ', StringComparison.Ordinal))
            .Select(result => (double.Parse(result.Setting.AsSpan(prefix.Length), CultureInfo.InvariantCulture), result.Setting)).Distinct()];
        if (values.Count > 0 && results.Any(result => result.Task == task.Name && result.Setting == MadSettings.Baseline))
        {
            MadSettings settings = task.Baseline;
            values.Add((variable switch { "vocab" => settings.Vocabulary, "length" => settings.Length, "noise" => settings.Noise, "copy" => settings.Copies, _ => settings.TrainExamples }, MadSettings.Baseline));
        }

        values.Sort();
        return values;
    }

    /// <summary>Accuracy after each epoch at baseline: the best point of the first seed.</summary>
    private IEnumerable<LineChart> LearningCharts()
        => Tasks.Where(task => results.Any(result => result.Task == task.Name && result.Setting == MadSettings.Baseline)).Select(task => new LineChart
        {
            Title = $"{task.Name}: learning",
            Caption = "Test accuracy after each epoch at baseline, the first seed at its best point of the sweep. A line ends where the task is solved.",
            XLabel = "epoch",
            YLabel = "test accuracy, %",
            Series = [.. mixers.Select((mixer, index) => (Result: best.BestOfSeeds(task.Name, MadSettings.Baseline, mixer, MadMeasure.BestEpoch).FirstOrDefault(), Mixer: mixer, Index: index)).Where(entry => entry.Result is not null)
                .Select(entry => new ChartSeries(
                    entry.Mixer, [.. Enumerable.Range(1, entry.Result!.Outcome.Accuracies.Count).Select(epoch => (double)epoch)], [.. entry.Result.Outcome.Accuracies.Select(value => 100 * value)])
                { Color = entry.Index, Dashed = ReportPalette.IsRepeated(entry.Index) })],
        });
}
