using System.Text.Json;
using ExactFlow.Tensors.Files;
using ExactFlow.Testing;

namespace ExactFlow.Cli.Tests;

/// <summary><c>exactflow mad</c>: examples to read and to take along, a study that goes on where it was, and what is refused.</summary>
public sealed class MadTests
{
    private static readonly string[] Tiny = ["mad", "run", "--out", "study", "--tasks", "parity,compression", "--mixers", "efla", "--lr", "1e-3", "--wd", "0", "--epochs", "2", "--limit", "40", "--batch", "8", "--width", "16", "--heads", "2", "--enough", "2", "--threads", "1"];

    [Fact]
    public void An_example_is_shown_with_its_targets_below()
    {
        using var folder = new TemporaryFolder();
        string shown = CliProcess.Run(folder.Path, ["mad", "show", "in_context_recall", "--split", "test"]).ShouldSucceed().Output;
        string[] lines = shown.Split('\n');
        Assert.StartsWith("in_context_recall: 127 tokens of 16, ", lines[0], StringComparison.Ordinal);
        Assert.StartsWith("reads ", lines[2], StringComparison.Ordinal);
        Assert.StartsWith("says ", lines[3], StringComparison.Ordinal);
        using JsonDocument json = JsonDocument.Parse(CliProcess.Run(folder.Path, ["mad", "show", "parity", "--length", "5", "--json"]).ShouldSucceed().Output);
        Assert.Equal(5, json.RootElement.GetProperty("targets").GetArrayLength());
    }

    [Fact]
    public void Examples_are_exported_as_training_makes_them()
    {
        using var folder = new TemporaryFolder();
        CliProcess.Run(folder.Path, ["mad", "export", "selective_copying", "--count", "3", "--out", "copy.safetensors"]).ShouldSucceed();
        using SafetensorsFile file = SafetensorsFile.Open(folder["copy.safetensors"]);
        Assert.Equal(["inputs", "targets"], file.Entries.Select(entry => entry.Name).Order());
        Assert.All(file.Entries, entry => Assert.Equal([3, 256], entry.Shape));
        Assert.Equal("selective_copying", file.Metadata["task"]);
    }

    [Fact]
    public void A_study_goes_on_where_it_was_and_is_reported()
    {
        using var folder = new TemporaryFolder();
        CliProcess.Run(folder.Path, [.. Tiny]).ShouldSucceed();
        string[] first = File.ReadAllLines(folder["study/results.jsonl"]);
        Assert.Equal(2, first.Length);
        CliProcess.Run(folder.Path, [.. Tiny, "--seeds", "2"]).ShouldSucceed();
        string[] second = File.ReadAllLines(folder["study/results.jsonl"]);
        Assert.Equal(first, second[..2]);
        Assert.Equal(4, second.Length);
        Assert.All(["report.html", "report.md", "baseline.svg"], name => Assert.True(File.Exists(folder["study/" + name])));
        CliResult report = CliProcess.Run(folder.Path, ["mad", "report", "--study", "study", "--out", "tables"]).ShouldSucceed();
        Assert.Contains("| efla |", report.Output, StringComparison.Ordinal);
        Assert.True(File.Exists(folder["tables/report.html"]));

        // A harder axis of a task that has it, in the same folder: compression at three other vocabularies, nothing for parity.
        CliProcess.Run(folder.Path, [.. Tiny, "--settings", "baseline,vocab"]).ShouldSucceed();
        string[] third = File.ReadAllLines(folder["study/results.jsonl"]);
        Assert.Equal(second, third[..4]);
        Assert.Equal(["vocab=128", "vocab=64", "vocab=32"], third[4..].Select(line => JsonDocument.Parse(line).RootElement.GetProperty("setting").GetString()));
        Assert.Contains("(4 of 11)", File.ReadAllText(folder["study/report.md"]), StringComparison.Ordinal);
        Assert.True(File.Exists(folder["study/means.svg"]));
        CliProcess.Run(folder.Path, [.. Tiny.Select((word, i) => i > 0 && Tiny[i - 1] == "--epochs" ? "3" : word)]).ShouldBeRefused("other settings", "epochs");
    }

    [Theory]
    [InlineData("length 127 % 2 = 0 must hold", "show", "in_context_recall", "--length", "127")]
    [InlineData("must hold", "export", "selective_copying", "--copy", "200", "--out", "x.safetensors")]
    [InlineData("There is no task 'recal'", "show", "recal")]
    [InlineData("training examples >= batch must hold", "run", "--out", "x", "--tasks", "parity", "--limit", "100")]
    [InlineData("tokens to copy + 1 = 401 must hold", "show", "selective_copying", "--copy", "200")]
    [InlineData("(vocabulary 6 - 1) / 2 = 2 >= motif 3 must hold", "show", "fuzzy_recall", "--vocab", "6")]
    [InlineData("length 301 % 2 = 0 must hold", "run", "--out", "x", "--tasks", "selective_copying,noisy_recall", "--settings", "full", "--extrapolate", "600,301")]
    [InlineData("2 x tokens to copy + 1 = 193 must hold", "run", "--out", "x", "--tasks", "selective_copying", "--settings", "copy", "--extrapolate", "192")]
    [InlineData("training examples >= batch must hold", "run", "--out", "x", "--tasks", "compression", "--settings", "full", "--batch", "1024")]
    [InlineData("none of the tasks parity has such", "run", "--out", "x", "--tasks", "parity", "--settings", "vocab")]
    [InlineData("--settings takes names", "run", "--out", "x", "--settings", "ful")]
    [InlineData("--extrapolate takes numbers from 2", "run", "--out", "x", "--extrapolate", "1e7")]
    [InlineData("--extrapolate takes whole numbers", "run", "--out", "x", "--extrapolate", "256.5")]
    [InlineData("--lr takes numbers", "run", "--out", "x", "--lr", "1e-3,fast")]
    [InlineData("There is no study", "report", "--study", "nowhere")]
    public void What_cannot_be_is_refused_before_anything_is_written(string sentence, params string[] arguments)
    {
        using var folder = new TemporaryFolder();
        CliProcess.Run(folder.Path, ["mad", .. arguments]).ShouldBeRefused(sentence);
        Assert.Empty(Directory.EnumerateFileSystemEntries(folder.Path));
    }
}
