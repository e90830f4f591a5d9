using System.Text;
using ExactFlow.Models.Text;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Randomness;
using ExactFlow.Testing;

namespace ExactFlow.Models.Tests.Text;

public class BytePairTokenizerTests
{
    private static readonly Lazy<BytePairTokenizer> Small = new(() => BytePairTokenizer.Train(
        [Encoding.UTF8.GetBytes(string.Concat(Enumerable.Repeat("The quick brown fox doesn't jump over the lazy dog's 12 tails — naïve café 中文 😀😀.\n\n", 3)))], 400, ["<|endoftext|>", "<|end|>"]));

    /// <summary>Hugging Face's guide to perplexity names 287,644 tokens for this text.</summary>
    [Fact]
    public void Gpt2GivesThePublishedNumberOfTokensOfWikiText()
    {
        byte[] text = File.ReadAllBytes(SharedData.Find("wikitext-2/wiki.test.hf-joined.txt"));
        BytePairTokenizer tokenizer = BytePairTokenizer.Load(SharedData.Find("tokenizers/gpt2"));
        int[] ids = tokenizer.Encode(text);
        Assert.Equal(287_644, ids.Length);
        Assert.Equal(text, tokenizer.DecodeBytes(ids));
        Assert.Equal(ids, tokenizer.EncodeLong(text, threads: 3));
    }

    [Fact]
    public void AnyUnicodeComesBack()
    {
        Philox random = new(3, Philox.StreamOf("unicode"));
        ulong position = 0;
        StringBuilder builder = new();
        for (int i = 0; i < 2000; i++)
        {
            builder.Clear();
            int length = random.Below(position++, 40);
            while (builder.Length < length)
            {
                int code = random.Below(position++, random.Below(position++, 3) == 0 ? 0x110000 : 0x300);
                builder.Append(Rune.IsValid(code) ? new Rune(code).ToString() : " ");
            }

            string text = builder.ToString();
            Assert.Equal(text, Small.Value.Decode(Small.Value.Encode(text)));
            Assert.Equal(text, Streamed(Small.Value.Encode(text)));
        }
    }

    [Fact]
    public void AnyBytesComeBack()
    {
        Philox random = new(4, Philox.StreamOf("bytes"));
        ulong position = 0;
        for (int i = 0; i < 2000; i++)
        {
            var bytes = new byte[random.Below(position++, 100)];
            for (int j = 0; j < bytes.Length; j++)
            {
                bytes[j] = (byte)random.Below(position++, 256);
            }

            Assert.Equal(bytes, Small.Value.DecodeBytes(Small.Value.Encode(bytes)));
        }
    }

    /// <summary>Words beyond the scan limit take the heap, shorter ones repeated scans, and known ones the cache: all must agree with the definition.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(7)]
    [InlineData(47)]
    [InlineData(48)]
    [InlineData(49)]
    [InlineData(63)]
    [InlineData(1000)]
    public void WordsOfAnyLengthAreMergedByTheDefinition(int length)
    {
        string letters = string.Concat(Enumerable.Repeat("aabaabbbaababaaaab", 100));
        BytePairTokenizer tokenizer = BytePairTokenizer.Train([Encoding.UTF8.GetBytes(letters)], 290);
        Philox random = new((ulong)length, Philox.StreamOf("words"));
        for (int round = 0; round < 20; round++)
        {
            byte[] word = [.. Enumerable.Range(0, length).Select(i => (byte)('a' + random.Below((ulong)((round * length) + i), 2)))];
            int[] expected = ByDefinition(tokenizer, word);
            Assert.Equal(expected, tokenizer.Encode(word));
            Assert.Equal(expected, tokenizer.Encode(word));
        }
    }

    [Fact]
    public void AHugeWordTakesNoQuadraticTime()
    {
        byte[] word = new byte[2_000_000];
        Array.Fill(word, (byte)'x');
        int[] ids = Small.Value.Encode(word);
        Assert.Equal(word, Small.Value.DecodeBytes(ids));
    }

    [Fact]
    public void TheCacheMayOverflow()
    {
        StringBuilder builder = new();
        for (int i = 0; i < 70_000; i++)
        {
            builder.Append(' ').Append((char)('a' + (i % 26))).Append(i * 7919 % 1_000_003).Append('q');
        }

        string text = builder.ToString();
        Assert.Equal(text, Small.Value.Decode(Small.Value.Encode(text)));
    }

    [Fact]
    public void SpecialTokensAreRecognisedLongestFirstUnlessToldNotTo()
    {
        int[] ids = Small.Value.Encode("<|end<|endoftext|><|end|>");
        Assert.Equal([0, 1], ids[^2..]);
        Assert.Equal("<|end<|endoftext|><|end|>", Small.Value.Decode(ids));
        Assert.Equal("<|end", Small.Value.Decode(ids, skipSpecialTokens: true));
        int[] plain = Small.Value.Encode("<|endoftext|>", recogniseSpecialTokens: false);
        Assert.DoesNotContain(0, plain);
        Assert.Equal("<|endoftext|>", Small.Value.Decode(plain));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(7)]
    public void LongTextsAreEncodedAlikeOnAnyNumberOfThreads(int threads)
    {
        byte[] text = Encoding.UTF8.GetBytes(string.Concat(Enumerable.Range(0, 60_000).Select(i => i % 17 == 0 ? "<|end|> \n" : $" fox's {i}  中文\n")));
        Assert.Equal(Small.Value.Encode(text), Small.Value.EncodeLong(text, threads));
        Assert.Empty(Small.Value.EncodeLong(default));
    }

    [Fact]
    public void AStreamedCharacterAppearsWhenItIsComplete()
    {
        int[] bytes = [.. Encoding.UTF8.GetBytes("é😀").Select(value => Small.Value.Encode([value])[0])];
        TextDecoder decoder = new(Small.Value);
        Assert.Equal(["", "é", "", "", "", "😀"], bytes.Select(decoder.Append));
        Assert.Equal("", decoder.Append(0));
        Assert.Equal("", decoder.Append(bytes[0]));
        Assert.Equal("\uFFFD", decoder.Finish());
    }

    [Fact]
    public void IdsOutsideTheVocabularyAreRefused()
    {
        Assert.Contains("400", Assert.Throws<InvalidInputException>(() => Small.Value.Decode([400])).Message);
        Assert.Throws<InvalidInputException>(() => Small.Value.BytesOf(-1).Length);
    }

    private static string Streamed(int[] ids)
    {
        TextDecoder decoder = new(Small.Value, skipSpecialTokens: false);
        return string.Concat(ids.Select(decoder.Append)) + decoder.Finish();
    }

    private static int[] ByDefinition(BytePairTokenizer tokenizer, byte[] word)
    {
        List<byte[]> symbols = [.. word.Select(value => new[] { value })];
        foreach ((int left, int right) in tokenizer.Merges)
        {
            for (int i = 0; i + 1 < symbols.Count; i++)
            {
                if (tokenizer.BytesOf(left).SequenceEqual(symbols[i]) && tokenizer.BytesOf(right).SequenceEqual(symbols[i + 1]))
                {
                    symbols[i] = [.. symbols[i], .. symbols[i + 1]];
                    symbols.RemoveAt(i + 1);
                }
            }
        }

        return [.. symbols.Select(symbol => Enumerable.Range(0, tokenizer.VocabularySize).First(id => tokenizer.BytesOf(id).SequenceEqual(symbol)))];
    }
}
