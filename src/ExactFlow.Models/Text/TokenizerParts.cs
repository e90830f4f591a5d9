using System.Text.Json;

namespace ExactFlow.Models.Text;

/// <summary>All that makes a tokenizer, as a <c>tokenizer.json</c> has it.</summary>
internal sealed record TokenizerParts
{
    private static readonly JsonElement ByteLevelJson = JsonElement.Parse("""{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true}""");

    /// <summary>The file, for errors.</summary>
    public required string Source { get; init; }

    /// <summary>The model's tokens as they are written, with their ids.</summary>
    public required IReadOnlyDictionary<string, int> Vocabulary { get; init; }

    /// <summary>Pairs of ids and what they become, earliest-learned first.</summary>
    public required IReadOnlyList<(int Left, int Right)> Merges { get; init; }

    /// <summary>What the model does beside merging.</summary>
    public required BytePairSettings Settings { get; init; }

    /// <summary>Added tokens.</summary>
    public required IReadOnlyList<AddedToken> Added { get; init; }

    /// <summary>The normalizer, or null.</summary>
    public JsonElement? Normalizer { get; init; }

    /// <summary>The pre-tokenizer, or null.</summary>
    public JsonElement? PreTokenizer { get; init; } = ByteLevelJson;

    /// <summary>The post-processor, or null.</summary>
    public JsonElement? PostProcessor { get; init; } = ByteLevelJson;

    /// <summary>The decoder, or null.</summary>
    public JsonElement? Decoder { get; init; } = ByteLevelJson;
}
