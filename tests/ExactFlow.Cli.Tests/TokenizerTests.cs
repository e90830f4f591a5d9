using System.Text.Json;
using ExactFlow.Testing;

namespace ExactFlow.Cli.Tests;

/// <summary><c>exactflow tokenizer</c>, learned on a small text.</summary>
public sealed class TokenizerTests : IDisposable
{
    private readonly TemporaryFolder folder = new();

    public TokenizerTests()
    {
        TinyText.Write(folder["text.txt"]);
        Run("train", "--text", "text.txt", "--vocabulary", "300", "--out", "tokenizer.json").ShouldSucceed();
    }

    public void Dispose() => folder.Dispose();

    [Fact]
    public void Ids_lead_back_to_the_text()
    {
        const string Text = "the exact flow <|endoftext|> naïve 😀";
        string ids = Run("encode", "--tokenizer", "tokenizer.json", "--prompt", Text).ShouldSucceed().Output.Trim();
        Assert.Contains(" 0 ", $" {ids} ", StringComparison.Ordinal);
        Assert.Equal(Text, Run(["decode", "--tokenizer", ".", .. ids.Split(' ')]).ShouldSucceed().Output.TrimEnd());
        Assert.Equal("the exact flow  naïve 😀", CliProcess.Run(folder.Path, ["tokenizer", "decode", "--tokenizer", ".", "--skip-special"], ids).ShouldSucceed().Output.TrimEnd());
        Assert.DoesNotContain(" 0 ", $" {Run("encode", "--tokenizer", ".", "--literal", "--prompt", Text).Output.Trim()} ", StringComparison.Ordinal);
        using JsonDocument document = JsonDocument.Parse(Run("encode", "--tokenizer", ".", "--json", "--prompt", Text).ShouldSucceed().Output);
        Assert.Equal(ids, string.Join(' ', document.RootElement.GetProperty("ids").EnumerateArray()));
    }

    [Fact]
    public void A_tokenizer_is_shown_and_compared()
    {
        Assert.Contains("pre_tokenizer   ByteLevel", Run("inspect", "--tokenizer", ".").ShouldSucceed().Output, StringComparison.Ordinal);
        using JsonDocument shown = JsonDocument.Parse(Run("inspect", "--tokenizer", ".", "--json").ShouldSucceed().Output);
        Assert.Equal("<|endoftext|>", shown.RootElement.GetProperty("added_tokens")[0].GetProperty("content").GetString());
        using JsonDocument rows = JsonDocument.Parse(Run("compare", "tokenizer.json", ".", "--text", "text.txt", "--json").ShouldSucceed().Output);
        Assert.All(rows.RootElement.EnumerateArray(), row => Assert.True(row.GetProperty("comes_back").GetBoolean()));
        File.WriteAllText(folder["good.jsonl"], "{\"text\":\"~\",\"ids\":[94],\"decoded\":\"~\"}\n");
        Assert.Contains("all 1 encodings agree", Run("compare", ".", "--reference", "good.jsonl").ShouldSucceed().Output, StringComparison.Ordinal);
    }

    [Fact]
    public void Mistakes_are_named()
    {
        File.WriteAllText(folder["bad.jsonl"], "{\"text\":\"~\",\"ids\":[1]}\n");
        Run("compare", ".", "--reference", "bad.jsonl").ShouldBeRefused("1 of 1");
        Run("compare", ".").ShouldBeRefused("--reference");
        Run("decode", "--tokenizer", ".", "12", "x7").ShouldBeRefused("'x7'");
        Run("decode", "--tokenizer", ".", "300").ShouldBeRefused("outside the vocabulary");
        File.WriteAllText(folder["broken.json"], "{\"model\":\n{]");
        Run("inspect", "--tokenizer", "broken.json").ShouldBeRefused("line 2, byte 1");
        Run("train", "--text", "text.txt", "--vocabulary", "256", "--out", "x.json").ShouldBeRefused("257");
        Run().ShouldBeRefused("train, encode, decode, inspect, compare");
    }

    private CliResult Run(params string[] arguments) => CliProcess.Run(folder.Path, ["tokenizer", .. arguments]);
}
