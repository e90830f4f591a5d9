using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using ExactFlow.Models.Text;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Randomness;
using ExactFlow.Testing;

namespace ExactFlow.Models.Tests.Text;

public class TokenizerFilesTests
{
    private const string Sample = "The flow's exact <|endoftext|> flow: 12 naïve cafés,\n\n 中文 😀 \"quoted\" \\ \t exact flow";

    private static readonly Lazy<BytePairTokenizer> Trained = new(() => BytePairTokenizer.Train([Encoding.UTF8.GetBytes(string.Concat(Enumerable.Repeat(Sample, 4)))], 320, ["<|endoftext|>"]));

    [Fact]
    public void ASavedTokenizerLoadsAsItWas()
    {
        using TemporaryFolder folder = new();
        Trained.Value.Save(folder["tokenizer.json"]);
        foreach (string path in (string[])[folder["tokenizer.json"], folder.Path])
        {
            BytePairTokenizer loaded = BytePairTokenizer.Load(path);
            Assert.Equal(Trained.Value.VocabularySize, loaded.VocabularySize);
            Assert.Equal(Trained.Value.Merges, loaded.Merges);
            Assert.Equal(Trained.Value.SpecialTokens, loaded.SpecialTokens);
            Assert.Equal(Trained.Value.Encode(Sample), loaded.Encode(Sample));
            loaded.Save(folder["again.json"]);
            Assert.Equal(File.ReadAllBytes(folder["tokenizer.json"]), File.ReadAllBytes(folder["again.json"]));
        }
    }

    [Fact]
    public void Gpt2SavedAsTokenizerJsonGivesTheSameIds()
    {
        using TemporaryFolder folder = new();
        BytePairTokenizer gpt2 = BytePairTokenizer.Load(SharedData.Find("tokenizers/gpt2"));
        gpt2.Save(folder["tokenizer.json"]);
        Assert.Equal(gpt2.Encode(Sample), BytePairTokenizer.Load(folder["tokenizer.json"]).Encode(Sample));
    }

    [Fact]
    public void MergesMayBeWrittenAsPairs()
    {
        using TemporaryFolder folder = new();
        Edit(folder, root => root["model"]!["merges"] = new JsonArray([.. root["model"]!["merges"]!.AsArray()
            .Select(merge => (JsonNode)new JsonArray([.. merge!.GetValue<string>().Split(' ').Select(part => (JsonNode)part)]))]));
        Assert.Equal(Trained.Value.Merges, BytePairTokenizer.Load(folder["tokenizer.json"]).Merges);
    }

    public static TheoryData<string, Action<JsonNode>> Unsupported => new()
    {
        { "NFC", root => root["normalizer"] = new JsonObject { ["type"] = "NFC" } },
        { "Metaspace", root => root["pre_tokenizer"] = new JsonObject { ["type"] = "Metaspace" } },
        { "Sequence", root => root["pre_tokenizer"] = new JsonObject { ["type"] = "Sequence", ["pretokenizers"] = new JsonArray() } },
        { "add_prefix_space", root => root["pre_tokenizer"]!["add_prefix_space"] = true },
        { "use_regex", root => root["pre_tokenizer"]!["use_regex"] = false },
        { "missing pre_tokenizer", root => root["pre_tokenizer"] = null },
        { "TemplateProcessing", root => root["post_processor"] = new JsonObject { ["type"] = "TemplateProcessing" } },
        { "WordPiece", root => root["decoder"] = new JsonObject { ["type"] = "WordPiece" } },
        { "Unigram", root => root["model"]!["type"] = "Unigram" },
        { "byte_fallback", root => root["model"]!["byte_fallback"] = true },
        { "ignore_merges", root => root["model"]!["ignore_merges"] = true },
        { "dropout", root => root["model"]!["dropout"] = 0.1 },
        { "end_of_word_suffix", root => root["model"]!["end_of_word_suffix"] = "</w>" },
        { "lstrip", root => root["added_tokens"]![0]!["lstrip"] = true },
        { "truncation", root => root["truncation"] = new JsonObject { ["max_length"] = 7 } },
        { "not in the vocabulary", root => root["model"]!["merges"]![0] = "zz zz" },
        { "a blank between", root => root["model"]!["merges"]![0] = "zz" },
        { "stands twice", root => root["model"]!["merges"]![1] = root["model"]!["merges"]![0]!.GetValue<string>() },
        { "0x7E", root => root["model"]!["vocab"]!.AsObject().Remove("~") },
        { "makes a token that is not in it", root => root["model"]!["merges"]!.AsArray().Add("Ā Ā") },
        { "id 7 belongs to", root => root["model"]!["vocab"]!["b"] = 7 },
        { "alphabet", root => root["model"]!["vocab"]!["▁the"] = 320 },
        { "between 0 and", root => root["model"]!["vocab"]!["zzz"] = -1 },
        { "between 0 and", root => root["model"]!["vocab"]!["zzz"] = int.MaxValue - 5 },
        { "not the form", root => root["model"]!["vocab"]!["zzz"] = "many" },
        { "not the form", root => root.AsObject().Remove("model") },
        { "not the form", root => root["model"]!["merges"]![0] = 7 },
        { "not the form", root => root["added_tokens"]![0] = 7 },
        { "stands twice", root => root["added_tokens"]!.AsArray().Add(root["added_tokens"]![0]!.DeepClone()) },
        { "a text is missing", root => root["model"]!["merges"]![0] = new JsonArray("a", null) },
        { "a text is missing", root => root["added_tokens"]![0]!["content"] = null },
    };

    [Theory]
    [MemberData(nameof(Unsupported))]
    public void WhatIsNotSupportedIsNamed(string named, Action<JsonNode> edit)
    {
        using TemporaryFolder folder = new();
        Edit(folder, edit);
        string message = Assert.Throws<InvalidInputException>(() => BytePairTokenizer.Load(folder["tokenizer.json"])).Message;
        Assert.Contains(named, message);
        Assert.Contains(folder["tokenizer.json"], message);
    }

    [Theory]
    [InlineData("tokenizers/qwen3", "NFC")]
    [InlineData("tokenizers/gpt-neox-olmo-dolma-v1_5", "NFC")]
    [InlineData("tokenizers/mistral-7b-v0.1", "Metaspace")]
    public void RealTokenizersOfOtherKindsAreRefusedByName(string path, string named)
        => Assert.Contains(named, Assert.Throws<InvalidInputException>(() => BytePairTokenizer.Load(SharedData.Find(path))).Message);

    [Fact]
    public void MissingAndBrokenFilesAreNamed()
    {
        using TemporaryFolder folder = new();
        Assert.Contains("expected tokenizer.json", Assert.Throws<InvalidInputException>(() => BytePairTokenizer.Load(folder.Path)).Message);
        Assert.Contains("none.json", Assert.Throws<InvalidInputException>(() => BytePairTokenizer.Load(folder["none.json"])).Message);
        File.WriteAllText(folder["broken.json"], "{\n\"model\": ");
        Assert.Contains("not valid JSON (line 2", Assert.Throws<InvalidInputException>(() => BytePairTokenizer.Load(folder["broken.json"])).Message);
    }

    [Fact]
    public void DamagedFilesGiveATokenizerOrTheOneError()
    {
        using TemporaryFolder folder = new();
        string path = folder["tokenizer.json"];
        Trained.Value.Save(path);
        byte[] original = File.ReadAllBytes(path);
        Philox random = new(5, Philox.StreamOf("tokenizer.json"));
        ulong position = 0;
        int refused = 0;
        for (int i = 0; i < 2000; i++)
        {
            byte[] copy = (byte[])original.Clone();
            int at = random.Below(position++, copy.Length);
            switch (random.Below(position++, 3))
            {
                case 0: copy[at] = (byte)random.Below(position++, 256); break;
                case 1: copy = [.. copy[..at], .. copy[Math.Min(copy.Length, at + 1 + random.Below(position++, 30))..]]; break;
                default: copy = [.. copy[..at], .. copy[random.Below(position++, copy.Length)..]]; break;
            }

            File.WriteAllBytes(path, copy);
            try
            {
                BytePairTokenizer tokenizer = BytePairTokenizer.Load(path);
                Assert.Equal(Sample, tokenizer.Decode(tokenizer.Encode(Sample)));
            }
            catch (InvalidInputException error)
            {
                Assert.Contains(path, error.Message);
                refused++;
            }
        }

        Assert.InRange(refused, 500, 1999);
    }

    private static void Edit(TemporaryFolder folder, Action<JsonNode> edit)
    {
        Trained.Value.Save(folder["tokenizer.json"]);
        JsonNode root = JsonNode.Parse(File.ReadAllText(folder["tokenizer.json"]))!;
        edit(root);
        File.WriteAllText(folder["tokenizer.json"], root.ToJsonString(new JsonSerializerOptions { WriteIndented = true }));
    }
}
