using System.Globalization;
using ExactFlow.Training.Report;

namespace ExactFlow.Training.Experiments.SequentialMnist;

/// <summary>The runs of one rule at one learning rate: its seeds.</summary>
/// <param name="Rule">The rule.</param>
/// <param name="Rate">The learning rate.</param>
/// <param name="Color">The rule's colour in charts.</param>
/// <param name="Results">One per seed.</param>
internal sealed record SequentialMnistGroup(SequentialMnistRule Rule, double Rate, int Color, IReadOnlyList<SequentialMnistResult> Results)
{
    /// <summary>Name in legends.</summary>
    public string Label => string.Create(CultureInfo.InvariantCulture, $"{Rule.Name} {Rate:0e+0}");

    /// <summary>A figure over the seeds.</summary>
    public MeanAndSpread Statistic(Func<SequentialMnistResult, double> figure) => MeanAndSpread.Of(Results.Select(figure));

    /// <summary>A share over the seeds, in %.</summary>
    public string Percent(Func<SequentialMnistResult, double> share) => Statistic(result => share(result) * 100).ToString("F1");
}

/// <summary>The results of a study by rule and learning rate, and the charts of them.</summary>
internal sealed class SequentialMnistGroups
{
    private static readonly (string Rule, double Rate)[] OfThePaper = [("efla", 3e-3), ("deltanet", 1e-3)];

    /// <summary>Rules that the loss and robustness charts show; with all of them a chart is hard to read.</summary>
    private const int MostLines = 12;

    private readonly List<SequentialMnistGroup> groups;

    /// <summary>Sorts results; the order of rules is that of <see cref="SequentialMnistRule.All"/>.</summary>
    public SequentialMnistGroups(IReadOnlyList<SequentialMnistResult> results)
    {
        Rules = [.. SequentialMnistRule.All.Where(rule => results.Any(result => result.Rule == rule.Name))];
        Rates = [.. results.Select(result => result.LearningRate).Distinct().Order()];
        groups =
        [
            .. from rule in Rules
               from rate in Rates
               let seeds = results.Where(result => result.Rule == rule.Name && result.LearningRate == rate).OrderBy(result => result.Seed).ToArray()
               where seeds.Length > 0
               select new SequentialMnistGroup(rule, rate, Rules.ToList().IndexOf(rule), seeds),
        ];
        MostSeeds = groups.Max(group => group.Results.Count);
        SequentialMnistGroup[] best = [.. Rules.Select(rule => groups.Where(group => group.Rule == rule).MinBy(group => Finite(group.Statistic(result => result.FinalLoss).Mean))!)];
        Selected = [.. OfThePaper.Select(pair => Find(pair.Rule, pair.Rate)).OfType<SequentialMnistGroup>().Concat(best).Distinct().OrderBy(group => group.Color).ThenBy(group => group.Rate).Take(MostLines)];
    }

    /// <summary>Rules that have results.</summary>
    public IReadOnlyList<SequentialMnistRule> Rules { get; }

    /// <summary>Learning rates that have results, ascending.</summary>
    public IReadOnlyList<double> Rates { get; }

    /// <summary>The most seeds of a rule at a rate.</summary>
    public int MostSeeds { get; }

    /// <summary>Every rule at its best learning rate (lowest mean loss at the end), and the paper's two at the paper's rates.</summary>
    public IReadOnlyList<SequentialMnistGroup> Selected { get; }

    /// <summary>File, title, axis, levels and results of each family of disturbances.</summary>
    public IReadOnlyList<(string File, string Title, string Label, IReadOnlyList<double> Levels, Func<SequentialMnistResult, double[]> Curve)> Disturbances { get; } =
    [
        ("intensity.svg", "Accuracy under brighter images", "factor on every pixel", Perturbation.IntensityLevels, result => result.Intensity),
        ("noise.svg", "Accuracy under noise", "standard deviation of the noise", Perturbation.TenthLevels, result => result.Noise),
        ("dropout.svg", "Accuracy under lost pixels", "probability that a pixel becomes 0", Perturbation.TenthLevels, result => result.Dropout),
    ];

    /// <summary>The seeds of a rule at a rate, or null.</summary>
    public SequentialMnistGroup? Find(string rule, double rate) => groups.Find(group => group.Rule.Name == rule && group.Rate == rate);

    /// <summary>Training loss over the steps.</summary>
    public LineChart LossCurves() => new()
    {
        Title = "Training loss",
        Caption = "Nats, means of a few steps; the band spans the seeds.",
        XLabel = "step",
        YLabel = "loss, nats",
        Series =
        [
            .. Selected.Select(group =>
            {
                int points = group.Results.Min(result => result.LossCurve.Length), stride = group.Results[0].LossStride;
                return Series(group, [.. Enumerable.Range(1, points).Select(i => (double)(i * stride))], (result, i) => result.LossCurve[i]);
            }),
        ],
    };

    /// <summary>Accuracy against the level of a disturbance.</summary>
    public LineChart RobustnessCurves(string title, string label, IReadOnlyList<double> levels, Func<SequentialMnistResult, double[]> curve) => new()
    {
        Title = title,
        Caption = "On the test images, %; the band spans the seeds.",
        XLabel = label,
        YLabel = "accuracy, %",
        Series = [.. Selected.Select(group => Series(group, levels, (result, i) => curve(result)[i] * 100) with { Marked = true })],
    };

    /// <summary>A figure against the learning rate.</summary>
    public LineChart ByRate(string title, string label, Func<SequentialMnistResult, double> figure) => new()
    {
        Title = title,
        Caption = "The band spans the seeds.",
        XLabel = "learning rate",
        YLabel = label,
        LogX = true,
        Series =
        [
            .. Rules.Select((rule, color) =>
            {
                SequentialMnistGroup[] rates = [.. groups.Where(group => group.Rule == rule)];
                MeanAndSpread[] figures = [.. rates.Select(group => group.Statistic(figure))];
                return new ChartSeries(rule.Name, [.. rates.Select(group => group.Rate)], [.. figures.Select(each => each.Mean)], [.. figures.Select(each => each.Lowest)], [.. figures.Select(each => each.Highest)])
                {
                    Marked = true,
                    Color = color,
                    Dashed = ReportPalette.IsRepeated(color),
                };
            }),
        ],
    };

    private static double Finite(double value) => double.IsFinite(value) ? value : double.MaxValue;

    private ChartSeries Series(SequentialMnistGroup group, IReadOnlyList<double> x, Func<SequentialMnistResult, int, double> value)
    {
        MeanAndSpread[] points = [.. Enumerable.Range(0, x.Count).Select(i => group.Statistic(result => value(result, i)))];
        bool isSecond = Selected.First(other => other.Rule == group.Rule) != group;
        return new ChartSeries(group.Label, x, [.. points.Select(point => point.Mean)], [.. points.Select(point => point.Lowest)], [.. points.Select(point => point.Highest)])
        {
            Color = group.Color,
            Dashed = isSecond || ReportPalette.IsRepeated(group.Color),
        };
    }
}
