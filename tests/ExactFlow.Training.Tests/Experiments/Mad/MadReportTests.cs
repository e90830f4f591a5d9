using ExactFlow.Models.Mad;
using ExactFlow.Tensors;
using ExactFlow.Training.Experiments;
using ExactFlow.Training.Experiments.Mad;
using ExactFlow.Training.Report;

namespace ExactFlow.Training.Tests.Experiments.Mad;

/// <summary>Which trainings a study asks for, and what its tables make of them.</summary>
public sealed class MadReportTests
{
    [Fact]
    public void The_best_point_of_each_seed_counts_and_seeds_are_averaged()
    {
        MadReport report = new([Result("compression", "efla", 1e-3, 1, 0.30), Result("compression", "efla", 5e-4, 1, 0.40), Result("compression", "efla", 1e-3, 2, 0.50), Result("compression", "deltanet", 1e-3, 1, 0.25)]);
        MeanAndSpread accuracy = report.Accuracy("compression", "baseline", "efla")!.Value;
        Assert.Equal((45, 2), (accuracy.Mean, accuracy.Count));
        Assert.Equal(7.0711, accuracy.Spread, 1e-4);
        Assert.Null(report.Accuracy("parity", "baseline", "efla"));
        string markdown = report.Markdown();
        Assert.Contains("| efla | 45.0 ± 7.1 | 45.0 |", markdown, StringComparison.Ordinal);
        Assert.Contains("| EFLA in the paper | 43.8 | 43.8 |", markdown, StringComparison.Ordinal);
        Assert.Contains("| compression efla | 40.0 | 40.0 ± 14.1 |", markdown, StringComparison.Ordinal);
    }

    [Fact]
    public void Harder_settings_and_other_lengths_become_curves()
    {
        MadResult harder = Result("noisy_recall", "efla", 1e-3, 1, 0.9) with { Setting = "noise=0.4" }, hardest = harder with { Setting = "noise=0.8", Outcome = Outcome(0.5) };
        MadResult parity = Result("parity", "cayley", 1e-3, 1, 1);
        parity = parity with { Outcome = parity.Outcome with { Extrapolation = [new MadLength(256, 0.75), new MadLength(512, 0.6)] } };
        MadReport report = new([Result("noisy_recall", "efla", 1e-3, 1, 1), harder, hardest, parity]);
        LineChart noise = Assert.Single(report.DifficultyCharts());
        Assert.Equal("noisy_recall against noise", noise.Title);
        Assert.Equal([0.2, 0.4, 0.8], noise.Series[0].X);
        Assert.Equal([100, 90, 50], noise.Series[0].Y);
        LineChart lengths = Assert.Single(report.LengthCharts());
        Assert.Equal([128, 256, 512], lengths.Series[1].X);
        Assert.Equal([100, 75, 60], lengths.Series[1].Y);
        string page = HtmlReport.Render(report.Page("exactflow mad run", []));
        Assert.Contains("State tracking", page, StringComparison.Ordinal);
        Assert.DoesNotContain("src=\"http", page, StringComparison.Ordinal);
    }

    [Fact]
    public void Means_over_settings_stand_beside_the_papers_and_say_what_they_cover()
    {
        // Seed 1 has three of eleven settings, seed 2 only the baseline: the mean over settings is seed 1's.
        MadResult baseline = Scored(Result("compression", "efla", 1e-3, 1, 0.9), 0.8), other = Scored(Result("compression", "efla", 1e-3, 2, 0.9), 0.7);
        MadResult wide = baseline with { Setting = "vocab=32", Outcome = baseline.Outcome with { Score = 0.5 } }, longer = baseline with { Setting = "length=64", Outcome = baseline.Outcome with { Score = 0.2 } };
        MadResult worse = wide with { LearningRate = 1e-4, Outcome = wide.Outcome with { Accuracy = 0.95, Score = 0.4 } };
        MadReport report = new([baseline, other, wide, worse, longer]);
        string markdown = report.Markdown();
        Assert.Contains("| efla at baseline | 75.0 ± 7.1 | 75.0 |", markdown, StringComparison.Ordinal);
        Assert.Contains("| efla over settings | 50.0 (3 of 11) | 50.0 |", markdown, StringComparison.Ordinal);
        BarChart bars = report.MeanBars()!;
        Assert.Equal(["efla", "DeltaNet in the paper", "EFLA in the paper"], bars.Series.Select(series => series.Label));
        Assert.Equal([50, 42.7, 43.8], bars.Series.Select(series => series.Values[0]), (a, b) => Math.Abs(a - b) < 1e-9);

        // Results from before there were scores show their last epoch, and harder settings are not claimed where there are none.
        report = new([Result("compression", "efla", 1e-3, 1, 0.9) with { Outcome = Outcome(0.9) with { Accuracies = [0.9, 0.6] } }]);
        Assert.Contains("| efla at baseline | 60.0 | 60.0 |", report.Markdown(), StringComparison.Ordinal);
        Assert.DoesNotContain("over settings |", report.Markdown(), StringComparison.Ordinal);
        Assert.Null(report.MeanBars());
    }

    [Fact]
    public void A_study_asks_for_every_point_once_and_for_whole_tables_first()
    {
        MadTaskKind[] tasks = [MadTaskKind.Parse("compression"), MadTaskKind.Parse("memorization")];
        MadMixer[] mixers = [MadMixer.Parse("efla"), MadMixer.Parse("softmax")];
        IReadOnlyList<MadPoint> points = MadStudy.Points(tasks, mixers, [MadSettings.Baseline], [5e-4, 1e-3], [0, 0.1], seeds: 2, firstSeed: 10);
        Assert.Equal(2 * 2 * 2 * 2 * 2, points.Count);
        Assert.Equal(points.Count, points.Select(point => point.ToString()).Distinct().Count());
        Assert.Equal(["compression baseline softmax", "compression baseline efla", "memorization baseline softmax", "memorization baseline efla"], points.Take(4).Select(point => $"{point.Task} {point.Setting} {point.Mixer}"));
        Assert.All(points.Take(4), point => Assert.Equal((5e-4, 0, 10UL), (point.LearningRate, point.WeightDecay, point.Seed)));
        Assert.All(points.Take(16), point => Assert.Equal(10UL, point.Seed));

        // Ten harder settings of compression, five of memorization.
        IReadOnlyList<MadPoint> full = MadStudy.Points(tasks, mixers, [MadTaskKind.Full], [1e-3], [0], seeds: 1, firstSeed: 1);
        Assert.Equal(2 * (11 + 6), full.Count);
        Assert.Contains(full, point => point.Setting == "vocab=8192");

        // The baseline's trainings keep their names and come first, then the longest: 256 tokens of compression.
        Assert.Equal(MadStudy.Points(tasks, mixers, [MadSettings.Baseline], [1e-3], [0], seeds: 1, firstSeed: 1), full.Take(4));
        Assert.Equal("length=256", full[4].Setting);
        Assert.Equal(["vocab=128", "vocab=64", "vocab=32", "vocab=8192", "vocab=4096", "vocab=2048", "vocab=1024", "vocab=512"],
            MadStudy.Points(tasks, [mixers[0]], ["vocab"], [1e-3], [0], 1, 1).Select(point => point.Setting));
        Assert.Contains("noise", Assert.Throws<InvalidInputException>(() => MadStudy.Points(tasks, mixers, ["noise"], [1e-3], [0], 1, 1)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Impossible_studies_are_refused_before_anything_runs()
    {
        IReadOnlyList<MadPoint> points = MadStudy.Points([MadTaskKind.Parse("memorization")], [MadMixer.Parse("efla")], [MadSettings.Baseline], [1e-3], [0], 1, 1);
        Assert.Contains("training examples >= batch", Assert.Throws<InvalidInputException>(() => new MadStudy { Limit = 100 }.Runs(points)).Message, StringComparison.Ordinal);
        Assert.Contains("heads", Assert.Throws<InvalidInputException>(() => new MadStudy { Heads = 3 }.Runs(points)).Message, StringComparison.Ordinal);
        Assert.Single(new MadStudy().Runs(points));

        // Lengths to be tested at later are looked at now.
        points = MadStudy.Points([MadTaskKind.Parse("noisy_recall")], [MadMixer.Parse("efla")], [MadTaskKind.Full], [1e-3], [0], 1, 1);
        Assert.Contains("length 257 % 2 = 0", Assert.Throws<InvalidInputException>(() => new MadStudy { Extrapolation = [256, 257] }.Runs(points)).Message, StringComparison.Ordinal);
        Assert.Equal(14, new MadStudy { Extrapolation = [256] }.Runs(points).Count);
    }

    private static MadResult Result(string task, string mixer, double rate, ulong seed, double accuracy) => new(task, "baseline", mixer, rate, 0, seed, Outcome(accuracy));

    private static MadResult Scored(MadResult result, double score) => result with { Outcome = result.Outcome with { Score = score } };

    private static MadOutcome Outcome(double accuracy) => new(accuracy, 2, 2, 1000, 0, [2, 1], [accuracy / 2, accuracy], []);
}
