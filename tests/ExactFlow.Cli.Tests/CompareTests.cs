using System.Text.Json;
using ExactFlow.Testing;

namespace ExactFlow.Cli.Tests;

/// <summary><c>exactflow compare</c> on a small text.</summary>
public sealed class CompareTests : IDisposable
{
    private readonly TemporaryFolder folder = new();

    public CompareTests() => TinyText.Write(folder["text.txt"]);

    public void Dispose() => folder.Dispose();

    [Fact]
    public void It_ends_with_a_table_samples_and_a_report()
    {
        CliResult result = Compare("--steps", "6").ShouldSucceed();
        Assert.Matches(@"efla \| step 6/6 [\s\S]*deltanet \| step 6/6 ", result.Output);
        Assert.Matches(@"rule +parameters +validation loss +perplexity +bits per byte +tok/s +peak memory", result.Output);
        Assert.Matches(@"\n *efla +[\d,]+ +\d+\.\d{4} +\d+\.\d\d +\d+\.\d{4} +[\d,]+ +[\d.]+ MiB", result.Output);
        Assert.Matches(@"\n *deltanet +[\d,]+ +\d+\.\d{4} ", result.Output);
        Assert.Matches(@"\n *brotli at its best +\d+\.\d{4}", result.Output);
        Assert.Matches(@"efla continues ""The"": ", result.Output);
        Assert.Matches(@"deltanet continues ""The"": ", result.Output);
        string report = File.ReadAllText(folder["runs/compare/report.html"]);
        Assert.Contains("exactflow compare", report, StringComparison.Ordinal);
        Assert.DoesNotMatch("<(script|link|img)[^>]+(src|href)=\"?http", report);
        Assert.Empty(result.Error);
    }

    [Fact]
    public void Json_has_every_rule_and_seed()
    {
        CliResult result = Compare("--steps", "2", "--seeds", "2", "--seed", "7", "--rules", "efla,softmax_attention,mamba2", "--json").ShouldSucceed();
        using var document = JsonDocument.Parse(result.Output);
        JsonElement[] rules = [.. document.RootElement.GetProperty("result").GetProperty("rules").EnumerateArray()];
        Assert.Equal(["efla", "softmax_attention", "mamba2"], rules.Select(rule => rule.GetProperty("rule").GetString()));
        Assert.All(rules, rule => Assert.Equal([7, 8], rule.GetProperty("seeds").EnumerateArray().Select(seed => seed.GetProperty("seed").GetInt32())));
    }

    [Fact]
    public void Several_seeds_show_their_spread() =>
        Assert.Matches(@"\n *efla +[\d,]+ +\d+\.\d{4} ± \d+\.\d{4} ", Compare("--steps", "2", "--seeds", "42,99").ShouldSucceed().Output);

    [Fact]
    public void Ctrl_c_stops_with_checkpoints_and_the_same_command_continues()
    {
        using (CliProcess process = CliProcess.Start(folder.Path, Arguments("--steps", "100")))
        {
            process.WaitForText("deltanet | step 2/100");
            process.Interrupt();
            CliResult stopped = process.WaitForEnd();
            Assert.Equal(130, stopped.ExitCode);
            Assert.Contains("the same command continues", stopped.Output, StringComparison.Ordinal);
        }

        CliResult resumed = Compare("--steps", "100").ShouldSucceed();
        Assert.DoesNotContain("efla | step 1/100", resumed.Output, StringComparison.Ordinal);
        Assert.Contains("brotli at its best", resumed.Output, StringComparison.Ordinal);
    }

    [Fact]
    public void A_run_with_other_settings_is_not_continued()
    {
        Compare("--steps", "2").ShouldSucceed();
        Compare("--steps", "3").ShouldBeRefused("steps was 2 and is 3", "another name");
    }

    [Theory]
    [InlineData("elfa", "did you mean efla?")]
    [InlineData("efla,efla", "twice")]
    [InlineData("", "separated by commas")]
    public void Rules_that_cannot_be_used_are_explained(string rules, string expected) => Compare("--rules", rules).ShouldBeRefused("--rules", expected);

    [Theory]
    [InlineData("0")]
    [InlineData("1001")]
    [InlineData("three")]
    [InlineData("1,,2")]
    public void Seeds_that_cannot_be_used_are_explained(string seeds) => Compare("--seeds", seeds).ShouldBeRefused("--seeds", $"'{seeds}'");

    [Fact]
    public void A_folder_without_text_is_refused()
    {
        Directory.CreateDirectory(folder["empty"]);
        CliProcess.Run(folder.Path, ["compare", "--text", "empty"]).ShouldBeRefused("'empty'", ".txt");
    }

    private CliResult Compare(params string[] more) => CliProcess.Run(folder.Path, Arguments(more));

    private static string[] Arguments(params string[] more) => ["compare", "--text", "text.txt", .. TinyText.Settings("training."), .. more];
}
