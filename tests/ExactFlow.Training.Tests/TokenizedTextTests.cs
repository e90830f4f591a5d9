using System.Text;
using ExactFlow.Models.Text;
using ExactFlow.Tensors;
using ExactFlow.Training.Data;
using ExactFlow.Training.Options;

namespace ExactFlow.Training.Tests;

public class TokenizedTextTests
{
    private static readonly string Text = string.Concat(Enumerable.Repeat("some words, over and over\n", 40));

    /// <summary>Tokenizers from elsewhere begin documents with other tokens than ours.</summary>
    [Theory]
    [InlineData("<s>")]
    [InlineData("<|begin_of_text|>")]
    public void DocumentsBeginWithTheTokenThatATokenizerHas(string token)
    {
        using TemporaryFolder folder = new();
        TokenizedText text = Prepare(folder, "</s>", token);
        Assert.Equal(text.Tokenizer.SpecialTokens[token], text.EndOfText);
        int[] inputs = new int[8], targets = new int[8];
        text.Training.ReadFixed(0, 1, inputs, targets);
        Assert.Equal(text.EndOfText, inputs[0]);
    }

    [Fact]
    public void ATokenizerWithoutSuchATokenIsRefused()
    {
        using TemporaryFolder folder = new();
        Assert.Contains("has no special token <|endoftext|> or <s>", Assert.Throws<InvalidInputException>(() => Prepare(folder, "<pad>")).Message, StringComparison.Ordinal);
    }

    private static TokenizedText Prepare(TemporaryFolder folder, params string[] special)
    {
        BytePairTokenizer.Train([Encoding.UTF8.GetBytes(Text)], 270, special).Save(folder["tokenizer.json"]);
        File.WriteAllText(folder["text.txt"], Text);
        DataOptions options = new() { Text = [folder["text.txt"]], Tokenizer = folder["tokenizer.json"], ValidationFraction = 0.2, SequenceLength = 8 };
        return TokenizedText.Prepare(options, TextSource.Load(options), folder["unused.json"], seed: 1);
    }
}
