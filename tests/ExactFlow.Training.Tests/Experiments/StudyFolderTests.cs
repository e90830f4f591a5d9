using ExactFlow.Tensors;
using ExactFlow.Training.Experiments;

namespace ExactFlow.Training.Tests.Experiments;

public class StudyFolderTests
{
    private sealed record Settings(int Epochs, double Rate);

    private sealed record Measured(double Accuracy, double[] Curve);

    private static StudyRecord<Measured> Record(string run, double accuracy) => new(run, "a device", null, 1.5, new Measured(accuracy, [1, double.NaN, 0.25]));

    private static string Message(Action action) => Assert.Throws<InvalidInputException>(action).Message;

    [Fact]
    public void Finished_runs_come_back_in_order_with_every_digit()
    {
        using var folder = new TemporaryFolder();
        using (StudyFolder<Measured> study = StudyFolder<Measured>.Open(folder["s"], "toy", new Settings(1, 0.1)))
        {
            study.Add(Record("b", 0.1 + 0.2));
            study.Add(Record("a", double.PositiveInfinity));
            Assert.True(study.Has("a"));
            Assert.False(study.Has("c"));
        }

        Assert.Equal(["results.jsonl", "study.json"], Directory.GetFiles(folder["s"]).Select(Path.GetFileName).Order());
        using StudyFolder<Measured> again = StudyFolder<Measured>.Open(folder["s"], "toy", new Settings(1, 0.1));
        Assert.Equal(["b", "a"], again.Records.Select(record => record.Run));
        Assert.Equal(0.1 + 0.2, again.Records[0].Result.Accuracy);
        Assert.Equal([1, double.NaN, 0.25], again.Records[0].Result.Curve);
        Assert.Equal(double.PositiveInfinity, again.Records[1].Result.Accuracy);
        Assert.Equal(("a device", 1.5), (again.Records[0].Device, again.Records[0].Seconds));
    }

    [Fact]
    public void A_line_that_a_killed_process_left_half_is_dropped_and_the_rest_stays()
    {
        using var folder = new TemporaryFolder();
        using (StudyFolder<Measured> study = StudyFolder<Measured>.Open(folder.Path, "toy", new Settings(1, 0.1)))
        {
            study.Add(Record("a", 1));
        }

        string results = folder["results.jsonl"], whole = File.ReadAllText(results);
        File.AppendAllText(results, whole[..(whole.Length / 2)]);
        Assert.Equal(["a"], StudyFolder<Measured>.Read(folder.Path, "toy").Select(record => record.Run));
        using (StudyFolder<Measured> study = StudyFolder<Measured>.Open(folder.Path, "toy", new Settings(1, 0.1)))
        {
            study.Add(Record("b", 2));
        }

        Assert.Equal(["a", "b"], StudyFolder<Measured>.Read(folder.Path, "toy").Select(record => record.Run));
        Assert.StartsWith(whole, File.ReadAllText(results), StringComparison.Ordinal);
    }

    [Fact]
    public void A_folder_of_other_settings_another_study_or_something_else_is_refused_and_left_as_it_is()
    {
        using var folder = new TemporaryFolder();
        using (StudyFolder<Measured> study = StudyFolder<Measured>.Open(folder["s"], "toy", new Settings(1, 0.1)))
        {
            study.Add(Record("a", 1));
            Assert.Contains("another process", Message(() => StudyFolder<Measured>.Open(folder["s"], "toy", new Settings(1, 0.1))), StringComparison.Ordinal);
        }

        Dictionary<string, string> before = Directory.GetFiles(folder["s"]).ToDictionary(path => path, File.ReadAllText);
        Assert.Contains("rate is 0.1 there and 0.2 now", Message(() => StudyFolder<Measured>.Open(folder["s"], "toy", new Settings(1, 0.2))), StringComparison.Ordinal);
        Assert.Contains("holds the study 'toy', not 'mad'", Message(() => StudyFolder<Measured>.Open(folder["s"], "mad", new Settings(1, 0.1))), StringComparison.Ordinal);
        Assert.Contains("holds the study 'toy', not 'mad'", Message(() => StudyFolder<Measured>.Read(folder["s"], "mad")), StringComparison.Ordinal);
        Assert.Equal(before, Directory.GetFiles(folder["s"]).ToDictionary(path => path, File.ReadAllText));

        Assert.Contains("holds something else", Message(() => StudyFolder<Measured>.Open(folder.Path, "toy", new Settings(1, 0.1))), StringComparison.Ordinal);
        Assert.Equal([folder["s"]], Directory.GetFileSystemEntries(folder.Path));
        Assert.Contains("no study", Message(() => StudyFolder<Measured>.Read(folder.Path, "toy")), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("not json\n", "Line 2")]
    [InlineData("{\"run\":\"b\"}\n", "Line 2")]
    [InlineData("{\"run\":\"a\",\"device\":\"d\",\"commit\":null,\"seconds\":1,\"accuracy\":1,\"curve\":[]}\n", "second result of the run 'a'")]
    public void A_damaged_results_file_is_named_with_its_line(string line, string expected)
    {
        using var folder = new TemporaryFolder();
        using (StudyFolder<Measured> study = StudyFolder<Measured>.Open(folder.Path, "toy", new Settings(1, 0.1)))
        {
            study.Add(Record("a", 1));
        }

        File.AppendAllText(folder["results.jsonl"], line);
        string message = Message(() => StudyFolder<Measured>.Open(folder.Path, "toy", new Settings(1, 0.1)));
        Assert.Contains(expected, message, StringComparison.Ordinal);
        Assert.Contains("results.jsonl", message, StringComparison.Ordinal);
        Assert.False(File.Exists(folder["study.lock"]));
    }

    [Fact]
    public void Tables_are_quoted_where_they_must_be()
    {
        using var folder = new TemporaryFolder();
        CsvTable.Write(folder["t.csv"], ["name", "value"], [["a,b", 0.1], ["say \"x\"", null]]);
        Assert.Equal("name,value\n\"a,b\",0.1\n\"say \"\"x\"\"\",\n", File.ReadAllText(folder["t.csv"]));
        Assert.Equal("| a | b |\n|---|---:|\n| x\\|y | 1 |\n", MarkdownTable.Render(["a", "b"], [["x|y", "1"]]));
    }

    [Fact]
    public void Mean_and_sample_deviation()
    {
        MeanAndSpread of = MeanAndSpread.Of([1, 2, 4]);
        Assert.Equal(7.0 / 3, of.Mean, 1e-15);
        Assert.Equal(Math.Sqrt(7.0 / 3), of.Spread, 1e-15);
        Assert.Equal((1.0, 4.0, 3), (of.Lowest, of.Highest, of.Count));
        Assert.Equal("2.3 ± 1.5", of.ToString("F1"));
        Assert.Equal("5.0", MeanAndSpread.Of([5]).ToString("F1"));
    }
}
