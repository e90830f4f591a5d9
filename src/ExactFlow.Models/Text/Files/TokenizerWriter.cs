using System.Text.Encodings.Web;
using System.Text.Json;
using ExactFlow.Tensors.Files;

namespace ExactFlow.Models.Text.Files;

/// <summary>Writes a <c>tokenizer.json</c>.</summary>
internal static class TokenizerWriter
{
    /// <summary>Writes a tokenizer; the file appears whole or not at all.</summary>
    public static void Save(BytePairTokenizer tokenizer, string path)
    {
        using AtomicFile file = new(path);
        using (Utf8JsonWriter json = new(file, new JsonWriterOptions { Indented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            TokenizerParts parts = tokenizer.Parts;
            json.WriteStartObject();
            json.WriteString("version", "1.0");
            json.WriteNull("truncation");
            json.WriteNull("padding");
            WriteAddedTokens(json, parts.Added);
            WritePart(json, "normalizer", parts.Normalizer);
            WritePart(json, "pre_tokenizer", parts.PreTokenizer);
            WritePart(json, "post_processor", parts.PostProcessor);
            WritePart(json, "decoder", parts.Decoder);
            WriteModel(json, tokenizer);
            json.WriteEndObject();
        }

        file.Commit();
    }

    private static void WriteAddedTokens(Utf8JsonWriter json, IReadOnlyList<AddedToken> tokens)
    {
        json.WriteStartArray("added_tokens");
        foreach (AddedToken token in tokens)
        {
            json.WriteStartObject();
            json.WriteNumber("id", token.Id);
            json.WriteString("content", token.Content);
            json.WriteBoolean("single_word", token.SingleWord);
            json.WriteBoolean("lstrip", token.LeftStrip);
            json.WriteBoolean("rstrip", token.RightStrip);
            json.WriteBoolean("normalized", token.Normalized);
            json.WriteBoolean("special", token.IsSpecial);
            json.WriteEndObject();
        }

        json.WriteEndArray();
    }

    private static void WritePart(Utf8JsonWriter json, string name, JsonElement? part)
    {
        json.WritePropertyName(name);
        if (part is { } value)
        {
            value.WriteTo(json);
        }
        else
        {
            json.WriteNullValue();
        }
    }

    private static void WriteModel(Utf8JsonWriter json, BytePairTokenizer tokenizer)
    {
        BytePairSettings settings = tokenizer.Parts.Settings;
        json.WriteStartObject("model");
        json.WriteString("type", "BPE");
        json.WriteNull("dropout");
        json.WriteString("unk_token", settings.UnknownToken);
        json.WriteNull("continuing_subword_prefix");
        json.WriteNull("end_of_word_suffix");
        json.WriteBoolean("fuse_unk", settings.FuseUnknown);
        json.WriteBoolean("byte_fallback", settings.ByteFallback);
        json.WriteBoolean("ignore_merges", settings.IgnoreMerges);
        json.WriteStartObject("vocab");
        foreach ((string token, int id) in tokenizer.Parts.Vocabulary.OrderBy(token => token.Value))
        {
            json.WriteNumber(token, id);
        }

        json.WriteEndObject();
        json.WriteStartArray("merges");
        foreach ((int left, int right) in tokenizer.Merges)
        {
            WriteMerge(json, tokenizer.TokenOf(left)!, tokenizer.TokenOf(right)!);
        }

        json.WriteEndArray();
        json.WriteEndObject();
    }

    /// <summary>As one text if that can be read back, as a pair if a token holds a blank.</summary>
    private static void WriteMerge(Utf8JsonWriter json, string left, string right)
    {
        if (!left.Contains(' ', StringComparison.Ordinal) && !right.Contains(' ', StringComparison.Ordinal))
        {
            json.WriteStringValue($"{left} {right}");
            return;
        }

        json.WriteStartArray();
        json.WriteStringValue(left);
        json.WriteStringValue(right);
        json.WriteEndArray();
    }
}
