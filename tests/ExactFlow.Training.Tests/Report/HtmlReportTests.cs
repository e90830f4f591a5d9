using System.Text.Json;
using System.Text.RegularExpressions;
using ExactFlow.Tensors.Randomness;
using ExactFlow.Training.Report;

namespace ExactFlow.Training.Tests.Report;

public class HtmlReportTests
{
    private static ReportCurve Curve(int seed, double floor)
    {
        var noise = new Philox((ulong)seed, 0);
        var curve = new ReportCurve();
        for (int step = 1; step <= 300; step++)
        {
            curve.Step.Add(step);
            curve.Loss.Add(step == 150 ? null : floor + (4 * Math.Exp(-step / 60.0)) + (0.1 * noise.Normal((ulong)step)));
            curve.GradNorm.Add(1 + Math.Abs(noise.Normal((ulong)step + 1000)));
            if (step % 50 == 0)
            {
                curve.ValidationStep.Add(step);
                curve.ValidationLoss.Add(floor + 0.1 + (4 * Math.Exp(-step / 60.0)));
            }
        }

        return curve;
    }

    internal static ReportPage Example(int seeds) => new()
    {
        Title = "efla and deltanet on <real> text & more",
        Subtitle = "300 steps of 2,048 tokens, seeds 1, 2, 3",
        Command = "exactflow compare --rules efla,deltanet",
        Columns = ["rule", "parameters", "validation loss", "perplexity", "bits per byte", "tokens/s", "peak memory"],
        Rows =
        [
            new ReportRow(0, [new("efla"), new("5,508,096"), new("3.912", "0.011"), new("50.0", "0.5"), new("1.512", "0.004"), new("5,120", "31"), new("412 MB")]),
            new ReportRow(1, [new("deltanet"), new("5,508,096"), new("3.934", "0.009"), new("51.1", "0.4"), new("1.521", "0.003"), new("5,187", "28"), new("409 MB")]),
            new ReportRow(-1, [new("Brotli, quality 11"), new("–"), new("–"), new("–"), new("2.412"), new("–"), new("–")]),
        ],
        Notes = ["Mean ± standard deviation over seeds."],
        Runs =
        [
            new ReportRun("efla", [.. Enumerable.Range(0, seeds).Select(seed => Curve(seed, 3.8))], [new(100, "The ", "method of the string </script> is"), new(300, "The ", "value of the collection that is returned when the")]),
            new ReportRun("deltanet", [.. Enumerable.Range(0, seeds).Select(seed => Curve(seed, 3.83))], [new(100, "The ", "the the of"), new(300, "The ", "element is added to the list.")]),
        ],
        Facts = [new("machine", "2 cores"), new("text", "5.1 MB")],
        Settings = "{ \"steps\": 300 }",
    };

    [Fact]
    public void The_page_carries_its_data_and_library_and_asks_for_nothing()
    {
        string html = HtmlReport.Render(Example(3));

        Assert.DoesNotContain("{{", html.Replace("var uPlot=", string.Empty, StringComparison.Ordinal).Split("uPlot (v1.6.32)")[0], StringComparison.Ordinal);
        Assert.Contains("efla and deltanet on &lt;real&gt; text &amp; more", html, StringComparison.Ordinal);
        Assert.Contains("uPlot (v1.6.32)", html, StringComparison.Ordinal);
        Assert.Contains("Permission is hereby granted", html, StringComparison.Ordinal);
        Assert.DoesNotMatch(new Regex("<(link|img|iframe|script)[^>]+(src|href)=", RegexOptions.IgnoreCase), html);
        Assert.DoesNotMatch(new Regex(@"url\(|@import|fetch\(|XMLHttpRequest", RegexOptions.IgnoreCase), html);
    }

    [Fact]
    public void The_data_survive_whatever_the_texts_hold()
    {
        string html = HtmlReport.Render(Example(1));
        string json = Regex.Match(html, "<script id=\"data\" type=\"application/json\">(.*?)</script>", RegexOptions.Singleline).Groups[1].Value;
        using JsonDocument data = JsonDocument.Parse(json);
        JsonElement run = data.RootElement.GetProperty("runs")[0];
        Assert.Equal("method of the string </script> is", run.GetProperty("samples")[0].GetProperty("text").GetString());
        Assert.Equal(300, run.GetProperty("seeds")[0].GetProperty("loss").GetArrayLength());
        Assert.Equal(JsonValueKind.Null, run.GetProperty("seeds")[0].GetProperty("loss")[149].ValueKind);
    }

    [Fact]
    public void It_is_written_as_one_file()
    {
        using var folder = new TemporaryFolder();
        HtmlReport.Write(folder["report.html"], Example(2));
        Assert.Equal([folder["report.html"]], Directory.GetFileSystemEntries(folder.Path));
    }
}
