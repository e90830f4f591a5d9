using System.IO.Compression;
using System.Text.Json;
using ExactFlow.Models.Text;
using ExactFlow.Models.Text.Files;
using ExactFlow.Testing;

namespace ExactFlow.Models.Tests.Text;

/// <summary>
/// Small tokenizers with one combination of components each, and the real ones, on texts chosen to be hard and random ones: ids and decoded texts are those of the
/// reference implementation, Hugging Face tokenizers 0.22.2 in Rust (<c>benchmarks/peers/tokenizers</c> makes the file again).
/// </summary>
public class ReferenceCaseTests
{
    private static readonly Lazy<JsonDocument> Cases = new(() =>
    {
        using Stream file = typeof(ReferenceCaseTests).Assembly.GetManifestResourceStream("tokenizer-cases.json.gz")!;
        using GZipStream json = new(file, CompressionMode.Decompress);
        return JsonDocument.Parse(json);
    });

    public static TheoryData<string> Small => [.. Cases.Value.RootElement.GetProperty("tokenizers").EnumerateObject().Select(tokenizer => tokenizer.Name)];

    [Theory]
    [MemberData(nameof(Small))]
    public void EveryCombinationOfComponentsAgrees(string name)
    {
        string json = Cases.Value.RootElement.GetProperty("tokenizers").GetProperty(name).GetRawText();
        Check(name, new BytePairTokenizer(TokenizerReader.ParseJson(System.Text.Encoding.UTF8.GetBytes(json), name)));
    }

    [Theory]
    [InlineData("gpt-neox-olmo-dolma-v1_5")]
    [InlineData("qwen3")]
    [InlineData("mistral-7b-v0.1")]
    public void RealTokenizersAgreeOnHardTexts(string name) => Check(name, BytePairTokenizer.Load(SharedData.Find($"tokenizers/{name}")));

    /// <summary>The small tokenizers as JSON.</summary>
    internal static IEnumerable<string> SmallTokenizers() => Cases.Value.RootElement.GetProperty("tokenizers").EnumerateObject().Select(tokenizer => tokenizer.Value.GetRawText());

    private static void Check(string name, BytePairTokenizer tokenizer)
    {
        JsonElement texts = Cases.Value.RootElement.GetProperty("texts");
        List<string> differences = [];
        int count = 0;
        foreach (JsonElement expected in Cases.Value.RootElement.GetProperty("expected").GetProperty(name).EnumerateArray())
        {
            string text = texts[expected[0].GetInt32()].GetString()!;
            int[] ids = [.. expected[1].EnumerateArray().Select(id => id.GetInt32())];
            int[] found = tokenizer.Encode(text, addSpecialTokens: true);
            Compare("ids", Show(tokenizer, ids), Show(tokenizer, found));
            foreach ((bool skip, JsonElement decoded) in ((bool, JsonElement)[])[(true, expected[2]), (false, expected[3])])
            {
                if (decoded.ValueKind == JsonValueKind.String)
                {
                    Compare($"decoded, skip {skip}", decoded.GetString()!, tokenizer.Decode(ids, skip));
                    TextDecoder stream = new(tokenizer, skip);
                    Compare($"streamed, skip {skip}", decoded.GetString()!, string.Concat(ids.Select(stream.Append)) + stream.Finish());
                }
            }

            count++;

            void Compare(string what, string expectedText, string foundText)
            {
                if (expectedText != foundText)
                {
                    differences.Add($"{what} of {JsonSerializer.Serialize(text)}: expected {JsonSerializer.Serialize(expectedText)}, found {JsonSerializer.Serialize(foundText)}");
                }
            }
        }

        Assert.True(differences.Count == 0, $"{differences.Count} differences:\n" + string.Join('\n', differences.Take(8)));
        Assert.InRange(count, 140, 149);
    }

    private static string Show(BytePairTokenizer tokenizer, int[] ids) => string.Join('|', ids.Select(id => $"{tokenizer.TokenOf(id)}"));
}
