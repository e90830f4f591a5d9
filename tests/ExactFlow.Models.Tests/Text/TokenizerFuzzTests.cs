using System.Text;
using System.Text.Json;
using ExactFlow.Models.Text;
using ExactFlow.Models.Text.Files;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Randomness;

namespace ExactFlow.Models.Tests.Text;

/// <summary>
/// Mutated tokenizers: each is either refused with the one exception that users see, or encodes and decodes. A fast share runs always; EXACTFLOW_FULL_FUZZ=1 runs
/// 200,000 mutations.
/// </summary>
public class TokenizerFuzzTests
{
    private const int Always = 6_000;
    private const int InFull = 200_000;
    private const string Sample = " The flow's <|end|> 12 naïve e\u0301 中😀\n\n  <s> word\t";

    private static readonly string[] Fragments =
    [
        "null", "true", "0", "-1", "999999999999", "1e400", "\"\"", "{}", "[]", "\"\\ud800\"", "\"Regex\"", "\"(?<\"", "\"String\"", "\"▁\"", "\"NFKC\"", "\"ByteLevel\"", "\"Metaspace\"",
        "\"Sequence\"", "\"Fuse\"", "\"Strip\"", "\"Digits\"", "\"Whitespace\"", "\"first\"", "\"always\"", "\"MergedWithNext\"", ",", "}", "]", "\u0000",
    ];

    [Fact]
    public void MutatedTokenizersAreReadOrRefused()
    {
        byte[][] seeds = [.. ReferenceCaseTests.SmallTokenizers().Select(Shrink)];
        int count = Environment.GetEnvironmentVariable("EXACTFLOW_FULL_FUZZ") == "1" ? InFull : Always;
        int refused = 0;
        Parallel.For(0, count, new ParallelOptions { MaxDegreeOfParallelism = 2 }, i =>
        {
            Philox random = new((ulong)i, Philox.StreamOf("tokenizer.json mutations"));
            byte[] json = Mutate(seeds[i % seeds.Length], random);
            try
            {
                BytePairTokenizer tokenizer = new(TokenizerReader.ParseJson(json, "mutated.json"));
                int[] ids = tokenizer.Encode(Sample, addSpecialTokens: true);
                TextDecoder stream = new(tokenizer, skipSpecialTokens: false);
                Assert.Equal(tokenizer.Decode(ids), string.Concat(ids.Select(stream.Append)) + stream.Finish());
                _ = tokenizer.Components.Count + tokenizer.DecodeBytes(ids).Length;
            }
            catch (InvalidInputException error)
            {
                Assert.Contains("'mutated.json'", error.Message);
                Interlocked.Increment(ref refused);
            }
        });
        Assert.InRange(refused, count / 4, count - 1);
    }

    /// <summary>Fewer merges, so that mutations hit the components and not always the vocabulary.</summary>
    private static byte[] Shrink(string json)
    {
        System.Text.Json.Nodes.JsonNode root = System.Text.Json.Nodes.JsonNode.Parse(json)!;
        System.Text.Json.Nodes.JsonArray merges = root["model"]!["merges"]!.AsArray();
        while (merges.Count > 12)
        {
            merges.RemoveAt(merges.Count - 1);
        }

        return JsonSerializer.SerializeToUtf8Bytes(root, new JsonSerializerOptions { Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping });
    }

    private static byte[] Mutate(byte[] original, Philox random)
    {
        ulong position = 0;
        byte[] json = original;
        int vocabulary = original.AsSpan().IndexOf("\"vocab\""u8);
        for (int rounds = 1 + random.Below(position++, 3); rounds > 0; rounds--)
        {
            // Three of four mutations outside the vocabulary, which takes most of the file.
            int at = random.Below(position++, random.Below(position++, 4) == 0 ? json.Length : Math.Min(json.Length, vocabulary));
            int end = Math.Min(json.Length, at + random.Below(position++, 24));
            json = random.Below(position++, 5) switch
            {
                0 => [.. json[..at], (byte)random.Below(position++, 256), .. json[Math.Min(json.Length, at + 1)..]],
                1 => [.. json[..at], .. json[end..]],
                2 => [.. json[..end], .. json[at..]],
                3 => Substitute(json, at, random, ref position),
                _ => random.Below(position++, 20) == 0 ? json[..at] : [.. json[..at], (byte)('0' + random.Below(position++, 10)), .. json[at..]],
            };
        }

        return json;
    }

    /// <summary>Puts a fragment in the place of the next value.</summary>
    private static byte[] Substitute(byte[] json, int at, Philox random, ref ulong position)
    {
        int start = json.AsSpan(at).IndexOf((byte)':') + at + 1;
        int length = json.AsSpan(start).IndexOfAny(",}]"u8);
        return length < 0 ? json : [.. json[..start], .. Encoding.UTF8.GetBytes(Fragments[random.Below(position++, Fragments.Length)]), .. json[(start + length)..]];
    }
}
