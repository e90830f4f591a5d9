using System.Text;
using System.Text.Json;
using ExactFlow.Models.Text;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Randomness;
using ExactFlow.Testing;

namespace ExactFlow.Models.Tests.Text;

public class BytePairTrainingTests
{
    [Fact]
    public void TheReferenceCorpusGivesTheReferenceMergesAndVocabulary()
    {
        string folder = SharedData.Find("tokenizers/cs336-bpe-fixtures");
        BytePairTokenizer tokenizer = BytePairTokenizer.Train([File.ReadAllBytes(Path.Combine(folder, "corpus.en"))], 500, ["<|endoftext|>"]);
        string[] expected = File.ReadAllLines(Path.Combine(folder, "train-bpe-reference-merges.txt"));
        Assert.Equal(expected, tokenizer.Merges.Select(merge => $"{Written(tokenizer, merge.Left)} {Written(tokenizer, merge.Right)}"));

        using JsonDocument vocabulary = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "train-bpe-reference-vocab.json")));
        Assert.Equal(500, tokenizer.VocabularySize);
        foreach (JsonProperty token in vocabulary.RootElement.EnumerateObject())
        {
            int id = token.Value.GetInt32();
            Assert.Equal(token.Name, tokenizer.IsSpecial(id) ? Encoding.UTF8.GetString(tokenizer.BytesOf(id)) : Written(tokenizer, id));
        }
    }

    [Fact]
    public void IncrementalCountsGiveWhatCountingAgainGives()
    {
        Philox random = new(7, Philox.StreamOf("merges"));
        ulong position = 0;
        for (int round = 0; round < 40; round++)
        {
            StringBuilder builder = new();
            int letters = 1 + random.Below(position++, 4);
            int length = random.Below(position++, 400);
            for (int i = 0; i < length; i++)
            {
                builder.Append(random.Below(position++, 6) == 0 ? ' ' : (char)('a' + random.Below(position++, letters)));
            }

            string text = builder.Append(" aa").ToString();
            BytePairTokenizer tokenizer = BytePairTokenizer.Train([Encoding.UTF8.GetBytes(text)], 300);
            List<(string, string)> learned = [.. tokenizer.Merges.Select(merge => (Written(tokenizer, merge.Left), Written(tokenizer, merge.Right)))];
            Assert.Equal(ReferenceMerges(text, 44, learned.Count), learned);
        }
    }

    [Fact]
    public void TheResultDoesNotDependOnThreadsOrOnHowTextsAreSplit()
    {
        byte[] text = File.ReadAllBytes(SharedData.Find("wikitext-2/wiki.test.raw"));
        BytePairTokenizer one = BytePairTokenizer.Train([text], 1500, threads: 1);
        BytePairTokenizer four = BytePairTokenizer.Train([text], 1500, threads: 4);
        int cut = Array.IndexOf(text, (byte)'\n', text.Length / 3);
        BytePairTokenizer split = BytePairTokenizer.Train([text.AsMemory(cut), text.AsMemory(0, cut)], 1500, threads: 2);
        Assert.Equal(1500, one.VocabularySize);
        Assert.Equal(one.Merges, four.Merges);
        Assert.Equal(one.Merges, split.Merges);
    }

    [Fact]
    public void SpecialTokensAreCutOutOfTheText()
    {
        byte[] text = Encoding.UTF8.GetBytes(string.Concat(Enumerable.Repeat("ab<|end|>", 50)));
        BytePairTokenizer tokenizer = BytePairTokenizer.Train([text], 400, ["<|pad|>", "<|end|>"]);
        Assert.Equal([("a", "b")], tokenizer.Merges.Select(merge => (Written(tokenizer, merge.Left), Written(tokenizer, merge.Right))));
        Assert.Equal(259, tokenizer.VocabularySize);
        Assert.Equal([258, 1, 258, 258], tokenizer.Encode("ab<|end|>abab")[..4]);
        Assert.Equal(0, tokenizer.SpecialTokens["<|pad|>"]);
    }

    [Fact]
    public void WrongRequestsAreRefused()
    {
        Assert.Contains("258", Assert.Throws<InvalidInputException>(() => BytePairTokenizer.Train([new byte[9]], 257, ["a", "b"])).Message);
        Assert.Contains("empty", Assert.Throws<InvalidInputException>(() => BytePairTokenizer.Train([], 300)).Message);
        Assert.Throws<InvalidInputException>(() => BytePairTokenizer.Train([new byte[9]], 300, ["a", "a"]));
        Assert.Throws<InvalidInputException>(() => BytePairTokenizer.Train([new byte[9]], 300, [""]));
    }

    private static string Written(BytePairTokenizer tokenizer, int id) => ByteAlphabet.Write(tokenizer.BytesOf(id));

    /// <summary>The definition: count all pairs again before every merge.</summary>
    private static List<(string, string)> ReferenceMerges(string text, int limit, int expectedCount)
    {
        List<List<string>> words = [];
        foreach (string word in text.Split(' '))
        {
            words.Add([.. word.Select(letter => letter.ToString())]);
        }

        for (int i = 1; i < words.Count; i++)
        {
            // A blank belongs to the word after it; of several, all but the last are words of their own.
            words[i].Insert(0, "Ġ");
        }

        List<List<string>> separated = SeparateRunsOfBlanks(words);
        List<(string, string)> merges = [];
        while (merges.Count < Math.Min(limit, expectedCount + 1))
        {
            Dictionary<(string Left, string Right), int> counts = [];
            foreach (List<string> word in separated)
            {
                for (int i = 0; i + 1 < word.Count; i++)
                {
                    counts[(word[i], word[i + 1])] = counts.GetValueOrDefault((word[i], word[i + 1])) + 1;
                }
            }

            if (counts.Count == 0 || counts.Values.Max() < 2)
            {
                break;
            }

            int most = counts.Values.Max();
            (string left, string right) = counts.Where(pair => pair.Value == most).Select(pair => pair.Key)
                .OrderBy(pair => Bytes(pair.Left), ByteOrder).ThenBy(pair => Bytes(pair.Right), ByteOrder).Last();
            merges.Add((left, right));
            foreach (List<string> word in separated)
            {
                for (int i = 0; i + 1 < word.Count; i++)
                {
                    if (word[i] == left && word[i + 1] == right)
                    {
                        word[i] = left + right;
                        word.RemoveAt(i + 1);
                    }
                }
            }
        }

        return merges;
    }

    private static Comparer<byte[]> ByteOrder => Comparer<byte[]>.Create((x, y) => x.AsSpan().SequenceCompareTo(y));

    private static byte[] Bytes(string written) => ByteAlphabet.TryRead(written)!;

    /// <summary>Words that are a blank alone are blanks followed by another blank: they join into one word.</summary>
    private static List<List<string>> SeparateRunsOfBlanks(List<List<string>> words)
    {
        List<List<string>> result = [];
        bool joins = false;
        foreach (List<string> word in words.Where(word => word.Count > 0))
        {
            bool isBlank = word is ["Ġ"];
            if (isBlank && joins)
            {
                result[^1].Add("Ġ");
            }
            else
            {
                result.Add([.. word]);
            }

            joins = isBlank;
        }

        return result;
    }
}
