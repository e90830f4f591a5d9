using System.Text;
using System.Text.Json;
using ExactFlow.Models.Text;
using ExactFlow.Testing;

namespace ExactFlow.Models.Tests.Text;

/// <summary>Real tokenizers against encodings made by the reference implementation, Hugging Face tokenizers in Rust.</summary>
public class ReferenceEncodingTests
{
    /// <summary>Folder, vocabulary, and whether the reference has the special tokens of the post-processor.</summary>
    public static TheoryData<string, int, bool> Families => new()
    {
        { "gpt2", 50257, false },
        { "gpt-neox-olmo-dolma-v1_5", 50280, true },
        { "qwen3", 151669, true },
        { "mistral-7b-v0.1", 32000, true },
    };

    [Theory]
    [MemberData(nameof(Families))]
    public void IdsTokensAndDecodedTextsAreThoseOfTheReference(string family, int vocabulary, bool hasSpecial)
    {
        string folder = SharedData.Find($"tokenizers/{family}");
        BytePairTokenizer tokenizer = BytePairTokenizer.Load(folder);
        Assert.Equal(vocabulary, tokenizer.VocabularySize);
        int texts = 0;
        foreach (string line in File.ReadLines(Path.Combine(folder, "reference_encodings.jsonl")))
        {
            using JsonDocument row = JsonDocument.Parse(line);
            string text = row.RootElement.GetProperty("text").GetString()!;
            int[] ids = tokenizer.Encode(text, addSpecialTokens: hasSpecial);
            Assert.Equal([.. row.RootElement.GetProperty("ids").EnumerateArray().Select(id => id.GetInt32())], ids);
            Assert.Equal([.. row.RootElement.GetProperty("tokens").EnumerateArray().Select(token => token.GetString())], ids.Select(tokenizer.TokenOf));
            string decoded = row.RootElement.TryGetProperty("decoded", out JsonElement reference) ? reference.GetString()! : text;
            Assert.Equal(decoded, tokenizer.Decode(ids, skipSpecialTokens: true));
            Assert.Equal(decoded, Streamed(tokenizer, ids));
            texts++;
        }

        Assert.Equal(121, texts);
    }

    /// <summary>The reference encoding that Mistral AI publishes with its own library.</summary>
    [Fact]
    public void MistralsOwnSampleAgrees()
    {
        string folder = SharedData.Find("tokenizers/mistral-7b-v0.1/mistral-common");
        using JsonDocument expected = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "tokens_v1.json")));
        int[] ids = [.. expected.RootElement.GetProperty("tokens").EnumerateArray().Select(id => id.GetInt32())];
        BytePairTokenizer tokenizer = BytePairTokenizer.Load(Path.GetDirectoryName(folder)!);
        Assert.Equal(ids, tokenizer.Encode(File.ReadAllText(Path.Combine(folder, "text_v1.txt")).TrimEnd('\n').Replace('▁', ' ')));
    }

    [Theory]
    [MemberData(nameof(Families))]
    public void ALongTextIsEncodedAlikeInOnePieceAndInParts(string family, int vocabulary, bool hasSpecial)
    {
        BytePairTokenizer tokenizer = BytePairTokenizer.Load(SharedData.Find($"tokenizers/{family}"));
        byte[] text = File.ReadAllBytes(SharedData.Find("books/valid.txt"));
        int[] whole = tokenizer.Encode(text, addSpecialTokens: hasSpecial);
        int added = hasSpecial ? tokenizer.Surrounding.Before.Count : 0;
        Assert.Equal(whole[added..], tokenizer.EncodeLong(text, threads: 2));
        Assert.Equal(text, tokenizer.DecodeBytes(whole[added..]));
        Assert.All(whole, id => Assert.InRange(id, 0, vocabulary - 1));
    }

    [Theory]
    [MemberData(nameof(Families))]
    public void ASavedTokenizerIsTheSame(string family, int vocabulary, bool hasSpecial)
    {
        using TemporaryFolder folder = new();
        BytePairTokenizer tokenizer = BytePairTokenizer.Load(SharedData.Find($"tokenizers/{family}"));
        tokenizer.Save(folder["tokenizer.json"]);
        BytePairTokenizer again = BytePairTokenizer.Load(folder.Path);
        const string Sample = " The  flow's <s> naïve e\u0301 中文 😀\n\n12345\t<|endoftext|> x";
        Assert.Equal(vocabulary, again.VocabularySize);
        Assert.Equal(tokenizer.Encode(Sample, addSpecialTokens: hasSpecial), again.Encode(Sample, addSpecialTokens: hasSpecial));
        Assert.Equal(tokenizer.Components, again.Components);
    }

    private static string Streamed(BytePairTokenizer tokenizer, int[] ids)
    {
        TextDecoder decoder = new(tokenizer);
        StringBuilder text = new();
        foreach (int id in ids)
        {
            text.Append(decoder.Append(id));
        }

        return text.Append(decoder.Finish()).ToString();
    }
}
