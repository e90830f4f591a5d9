using System.Text.Encodings.Web;
using System.Text.Json;

namespace ExactFlow.Models.Text;

/// <summary>The parts of a tokenizer in a line each.</summary>
internal static class TokenizerDescription
{
    private static readonly JsonSerializerOptions Compact = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>Names of parts and what they are.</summary>
    public static IReadOnlyList<(string Part, string Description)> Of(TokenizerParts parts) =>
    [
        ("normalizer", Describe(parts.Normalizer)),
        ("pre_tokenizer", Describe(parts.PreTokenizer)),
        ("model", DescribeModel(parts.Settings)),
        ("post_processor", Describe(parts.PostProcessor)),
        ("decoder", Describe(parts.Decoder)),
    ];

    private static string DescribeModel(BytePairSettings settings)
        => "BPE" + (settings.UnknownToken is { } unknown ? $", unknown {unknown}" : "") + (settings.ByteFallback ? ", byte fallback" : "")
            + (settings.FuseUnknown ? ", unknown fused" : "") + (settings.IgnoreMerges ? ", whole words first" : "");

    private static string Describe(JsonElement? component) => component is { ValueKind: JsonValueKind.Object } part ? DescribeObject(part) : "none";

    private static string DescribeObject(JsonElement part)
    {
        string type = part.GetProperty("type").ToString();
        JsonElement list = part.EnumerateObject().FirstOrDefault(field => field.Value.ValueKind == JsonValueKind.Array && type == "Sequence").Value;
        if (list.ValueKind == JsonValueKind.Array)
        {
            return string.Join(", ", list.EnumerateArray().Select(item => DescribeObject(item)));
        }

        IEnumerable<string> settings = part.EnumerateObject()
            .Where(field => field.Name is not ("type" or "trim_offsets" or "pair" or "special_tokens"))
            .Select(field => $"{field.Name}={JsonSerializer.Serialize(field.Value, Compact)}");
        return string.Join(' ', settings.Prepend(type));
    }
}
