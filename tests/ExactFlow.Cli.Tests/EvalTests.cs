using System.Text.Json;

namespace ExactFlow.Cli.Tests;

/// <summary><c>exactflow eval</c> on a model trained for a few steps.</summary>
public sealed class EvalTests(TrainedFixture trained) : IClassFixture<TrainedFixture>
{
    [Fact]
    public void The_figures_follow_from_each_other()
    {
        JsonElement score = Evaluate();
        double nats = score.GetProperty("loss").GetDouble() * score.GetProperty("tokens").GetDouble();
        double bytes = score.GetProperty("bytes").GetDouble();
        Assert.Equal(new FileInfo(trained["text.txt"]).Length, (long)bytes);
        Assert.Equal(nats / Math.Log(2) / bytes, score.GetProperty("bits_per_byte").GetDouble(), 1e-9);
        Assert.Equal(Math.Exp(score.GetProperty("loss").GetDouble()), score.GetProperty("perplexity").GetDouble(), 1e-6);
    }

    [Fact]
    public void A_carried_state_makes_the_window_irrelevant()
    {
        double whole = Evaluate("--carry").GetProperty("loss").GetDouble();
        Assert.Equal(whole, Evaluate("--carry", "--window", "7").GetProperty("loss").GetDouble(), 1e-5);
        Assert.Equal(whole, Evaluate("--carry", "--window", "100").GetProperty("loss").GetDouble(), 1e-5);
    }

    [Fact]
    public void Windows_are_as_long_as_those_trained_on_unless_told_otherwise()
    {
        double trainedLength = Evaluate().GetProperty("loss").GetDouble();
        Assert.Equal(trainedLength, Evaluate("--window", "32").GetProperty("loss").GetDouble());
        Assert.NotEqual(trainedLength, Evaluate("--window", "4").GetProperty("loss").GetDouble());
    }

    [Fact]
    public void The_line_for_people_has_the_same_figures()
    {
        CliResult result = CliProcess.Run(trained.Folder, ["eval", "--model", "runs/first", "--text", "text.txt"]).ShouldSucceed();
        Assert.Contains($"{Evaluate().GetProperty("bits_per_byte").GetDouble():0.0000} bits per byte", result.Output, StringComparison.Ordinal);
    }

    [Fact]
    public void A_text_that_does_not_exist_is_named() => CliProcess.Run(trained.Folder, ["eval", "--model", "runs/first", "--text", "absent.txt"]).ShouldBeRefused("'absent.txt'");

    [Fact]
    public void A_text_without_a_word_is_refused()
    {
        File.WriteAllText(trained["empty.txt"], "");
        CliProcess.Run(trained.Folder, ["eval", "--model", "runs/first", "--text", "empty.txt"]).ShouldBeRefused("longer text");
    }

    private JsonElement Evaluate(params string[] more)
    {
        CliResult result = CliProcess.Run(trained.Folder, ["eval", "--model", "runs/first", "--text", "text.txt", "--json", .. more]).ShouldSucceed();
        using var document = JsonDocument.Parse(result.Output);
        return document.RootElement.Clone();
    }
}
