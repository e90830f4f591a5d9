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
        { "Precompiled", root => root["normalizer"] = new JsonObject { ["type"] = "Precompiled" } },
        { "normalizer.normalizers[1]", root => root["normalizer"] = JsonNode.Parse("""{"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"Nmt"}]}""") },
        { "UnicodeScripts", root => root["pre_tokenizer"] = new JsonObject { ["type"] = "UnicodeScripts" } },
        { "'behaviour'", root => root["pre_tokenizer"] = JsonNode.Parse("""{"type":"Split","pattern":{"String":" "},"behaviour":"Removed"}""") },
        { "(?<x", root => root["pre_tokenizer"] = JsonNode.Parse("""{"type":"Split","pattern":{"Regex":"(?<x"},"behavior":"Removed"}""") },
        { "beyond U+FFFF", root => root["pre_tokenizer"] = JsonNode.Parse("""{"type":"Split","pattern":{"Regex":"[😀-😎]"},"behavior":"Removed"}""") },
        { "'Sideways'", root => root["pre_tokenizer"] = JsonNode.Parse("""{"type":"Split","pattern":{"String":" "},"behavior":"Sideways"}""") },
        { "Digits after ByteLevel", root => root["pre_tokenizer"] = JsonNode.Parse("""{"type":"Sequence","pretokenizers":[{"type":"ByteLevel"},{"type":"Digits"}]}""") },
        { "'add_blank'", root => root["pre_tokenizer"]!["add_blank"] = true },
        { "true or false", root => root["pre_tokenizer"]!["use_regex"] = 1 },
        { "one character", root => root["pre_tokenizer"] = JsonNode.Parse("""{"type":"Metaspace","replacement":"__"}""") },
        { "'single'", root => root["post_processor"] = new JsonObject { ["type"] = "TemplateProcessing" } },
        { "exactly once", root => root["post_processor"] = JsonNode.Parse("""{"type":"TemplateProcessing","single":[],"special_tokens":{}}""") },
        { "'[X]'", root => root["post_processor"] = JsonNode.Parse("""{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"[X]","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"special_tokens":{}}""") },
        { "adds id 777", root => root["post_processor"] = JsonNode.Parse("""{"type":"RobertaProcessing","cls":["<s>",777],"sep":["</s>",0]}""") },
        { "WordPiece", root => root["decoder"] = new JsonObject { ["type"] = "WordPiece" } },
        { "after all tokens have become one", root => root["decoder"] = JsonNode.Parse("""{"type":"Sequence","decoders":[{"type":"Fuse"},{"type":"ByteFallback"}]}""") },
        { "Unigram", root => root["model"]!["type"] = "Unigram" },
        { "dropout", root => root["model"]!["dropout"] = 0.1 },
        { "end_of_word_suffix", root => root["model"]!["end_of_word_suffix"] = "</w>" },
        { "'surprise'", root => root["model"]!["surprise"] = 1 },
        { "'surprise'", root => root["surprise"] = 1 },
        { "unk_token", root => root["model"]!["unk_token"] = "<none>" },
        { "truncation", root => root["truncation"] = new JsonObject { ["max_length"] = 7 } },
        { "not in the vocabulary", root => root["model"]!["merges"]![0] = "zz zz" },
        { "a blank between", root => root["model"]!["merges"]![0] = "zz" },
        { "two parts", root => root["model"]!["merges"]![0] = new JsonArray("a", "b", "c") },
        { "stands twice", root => root["model"]!["merges"]![1] = root["model"]!["merges"]![0]!.GetValue<string>() },
        { "0x7E", root => root["model"]!["vocab"]!.AsObject().Remove("~") },
        { "makes a token that is not in it", root => root["model"]!["merges"]!.AsArray().Add("Ā Ā") },
        { "id 7 belongs to", root => root["model"]!["vocab"]!["b"] = 7 },
        { "alphabet", root => root["model"]!["vocab"]!["▁the"] = 320 },
        { "between 0 and", root => root["model"]!["vocab"]!["zzz"] = -1 },
        { "between 0 and", root => root["model"]!["vocab"]!["zzz"] = int.MaxValue - 5 },
        { "whole number", root => root["model"]!["vocab"]!["zzz"] = "many" },
        { "'model'", root => root.AsObject().Remove("model") },
        { "model.merges[0]", root => root["model"]!["merges"]![0] = 7 },
        { "added_tokens[0]", root => root["added_tokens"]![0] = 7 },
        { "in the vocabulary, 0", root => root["added_tokens"]![0]!["id"] = 7 },
        { "stands twice", root => root["added_tokens"]!.AsArray().Add(root["added_tokens"]![0]!.DeepClone()) },
        { "model.merges[0][1]", root => root["model"]!["merges"]![0] = new JsonArray("a", null) },
        { "'content'", root => root["added_tokens"]![0]!["content"] = null },
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
        for (int i = 0; i < 500; i++)
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

        Assert.InRange(refused, 125, 499);
    }

    private static void Edit(TemporaryFolder folder, Action<JsonNode> edit)
    {
        Trained.Value.Save(folder["tokenizer.json"]);
        JsonNode root = JsonNode.Parse(File.ReadAllText(folder["tokenizer.json"]))!;
        edit(root);
        File.WriteAllText(folder["tokenizer.json"], root.ToJsonString(new JsonSerializerOptions { WriteIndented = true }));
    }
}
