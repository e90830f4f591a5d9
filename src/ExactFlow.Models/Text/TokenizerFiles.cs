using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Files;

namespace ExactFlow.Models.Text;

/// <summary>Reads and writes the files of byte-level tokenizers: Hugging Face's <c>tokenizer.json</c> and GPT-2's pair of vocabulary and merges.</summary>
internal static class TokenizerFiles
{
    private const int LargestId = 1 << 24;

    /// <summary>Reads a file or folder; see <see cref="BytePairTokenizer.Load"/>.</summary>
    public static BytePairTokenizer Load(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        if (!Directory.Exists(path))
        {
            return LoadJson(path);
        }

        string json = Path.Combine(path, "tokenizer.json");
        if (File.Exists(json))
        {
            return LoadJson(json);
        }

        foreach ((string vocabulary, string merges) in (ReadOnlySpan<(string, string)>)[("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt")])
        {
            if (File.Exists(Path.Combine(path, vocabulary)))
            {
                return LoadVocabularyAndMerges(Path.Combine(path, vocabulary), Path.Combine(path, merges));
            }
        }

        throw new InvalidInputException($"Folder '{path}' holds no tokenizer: expected tokenizer.json, or encoder.json with vocab.bpe, or vocab.json with merges.txt; name the right folder.");
    }

    /// <summary>Writes a <c>tokenizer.json</c>.</summary>
    public static void Save(BytePairTokenizer tokenizer, string path)
    {
        using AtomicFile file = new(path);
        using (Utf8JsonWriter json = new(file, new JsonWriterOptions { Indented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            json.WriteStartObject();
            json.WriteString("version", "1.0");
            json.WriteNull("truncation");
            json.WriteNull("padding");
            WriteAddedTokens(json, tokenizer);
            json.WriteNull("normalizer");
            foreach (string part in (ReadOnlySpan<string>)["pre_tokenizer", "post_processor", "decoder"])
            {
                json.WriteStartObject(part);
                json.WriteString("type", "ByteLevel");
                json.WriteBoolean("add_prefix_space", false);
                json.WriteBoolean("trim_offsets", true);
                json.WriteBoolean("use_regex", true);
                json.WriteEndObject();
            }

            WriteModel(json, tokenizer);
            json.WriteEndObject();
        }

        file.Commit();
    }

    private static void WriteAddedTokens(Utf8JsonWriter json, BytePairTokenizer tokenizer)
    {
        json.WriteStartArray("added_tokens");
        foreach ((string content, int id) in tokenizer.SpecialTokens.OrderBy(token => token.Value))
        {
            json.WriteStartObject();
            json.WriteNumber("id", id);
            json.WriteString("content", content);
            foreach (string flag in (ReadOnlySpan<string>)["single_word", "lstrip", "rstrip", "normalized"])
            {
                json.WriteBoolean(flag, false);
            }

            json.WriteBoolean("special", true);
            json.WriteEndObject();
        }

        json.WriteEndArray();
    }

    private static void WriteModel(Utf8JsonWriter json, BytePairTokenizer tokenizer)
    {
        json.WriteStartObject("model");
        json.WriteString("type", "BPE");
        json.WriteNull("dropout");
        json.WriteNull("unk_token");
        json.WriteNull("continuing_subword_prefix");
        json.WriteNull("end_of_word_suffix");
        json.WriteBoolean("fuse_unk", false);
        json.WriteBoolean("byte_fallback", false);
        json.WriteBoolean("ignore_merges", false);
        json.WriteStartObject("vocab");
        for (int id = 0; id < tokenizer.VocabularySize; id++)
        {
            if (!tokenizer.BytesOf(id).IsEmpty)
            {
                json.WriteNumber(tokenizer.IsSpecial(id) ? Encoding.UTF8.GetString(tokenizer.BytesOf(id)) : ByteAlphabet.Write(tokenizer.BytesOf(id)), id);
            }
        }

        json.WriteEndObject();
        json.WriteStartArray("merges");
        foreach ((int left, int right) in tokenizer.Merges)
        {
            json.WriteStringValue($"{ByteAlphabet.Write(tokenizer.BytesOf(left))} {ByteAlphabet.Write(tokenizer.BytesOf(right))}");
        }

        json.WriteEndArray();
        json.WriteEndObject();
    }

    private static BytePairTokenizer LoadJson(string path)
    {
        using JsonDocument document = Parse(path);
        try
        {
            JsonElement root = document.RootElement;
            TokenizerJsonComponents.RequireSupported(root, path);
            JsonElement model = root.GetProperty("model");
            return Build(path, model.GetProperty("vocab"), MergesOf(model.GetProperty("merges"), path), AddedTokens(root));
        }
        catch (Exception exception) when (exception is InvalidOperationException or KeyNotFoundException or FormatException)
        {
            throw Damaged(path, exception);
        }
    }

    private static BytePairTokenizer LoadVocabularyAndMerges(string vocabularyPath, string mergesPath)
    {
        const string EndOfText = "<|endoftext|>";
        string[] lines = Encoding.UTF8.GetString(ReadAll(mergesPath)).Split('\n');
        IEnumerable<(string, string)> merges = lines.Skip(lines[0].StartsWith("#version", StringComparison.Ordinal) ? 1 : 0)
            .Select(line => line.TrimEnd('\r')).Where(line => line.Length > 0).Select(line => SplitMerge(line, mergesPath));
        using JsonDocument vocabulary = Parse(vocabularyPath);
        try
        {
            Dictionary<string, int> special = vocabulary.RootElement.TryGetProperty(EndOfText, out JsonElement id) ? new(StringComparer.Ordinal) { [EndOfText] = id.GetInt32() } : [];
            return Build(vocabularyPath, vocabulary.RootElement, merges, special);
        }
        catch (Exception exception) when (exception is InvalidOperationException or KeyNotFoundException or FormatException)
        {
            throw Damaged(vocabularyPath, exception);
        }
    }

    private static Dictionary<string, int> AddedTokens(JsonElement root)
    {
        Dictionary<string, int> tokens = new(StringComparer.Ordinal);
        if (root.TryGetProperty("added_tokens", out JsonElement list) && list.ValueKind == JsonValueKind.Array)
        {
            foreach (JsonElement token in list.EnumerateArray())
            {
                if (!tokens.TryAdd(TextOf(token.GetProperty("content")), token.GetProperty("id").GetInt32()))
                {
                    throw new FormatException($"added token '{token.GetProperty("content")}' stands twice");
                }
            }
        }

        return tokens;
    }

    private static IEnumerable<(string Left, string Right)> MergesOf(JsonElement merges, string path)
    {
        foreach (JsonElement merge in merges.EnumerateArray())
        {
            yield return merge.ValueKind == JsonValueKind.String
                ? SplitMerge(TextOf(merge), path)
                : merge.GetArrayLength() == 2 ? (TextOf(merge[0]), TextOf(merge[1])) : throw new FormatException("a merge has not two parts");
        }
    }

    private static string TextOf(JsonElement element) => element.GetString() ?? throw new FormatException("a text is missing");

    private static (string Left, string Right) SplitMerge(string merge, string path)
    {
        int blank = merge.IndexOf(' ', StringComparison.Ordinal);
        return blank > 0 && blank == merge.LastIndexOf(' ') && blank < merge.Length - 1
            ? (merge[..blank], merge[(blank + 1)..])
            : throw new InvalidInputException($"Cannot read tokenizer '{path}': a merge must be two tokens with a blank between them, but '{merge}' stands there; the file is damaged.");
    }

    private static BytePairTokenizer Build(string path, JsonElement vocabulary, IEnumerable<(string Left, string Right)> merges, Dictionary<string, int> added)
    {
        Dictionary<string, int> ids = new(StringComparer.Ordinal);
        foreach (JsonProperty token in vocabulary.EnumerateObject())
        {
            if (!ids.TryAdd(token.Name, token.Value.GetInt32()))
            {
                throw new InvalidInputException($"Cannot read tokenizer '{path}': token '{token.Name}' stands twice in the vocabulary; the file is damaged.");
            }
        }

        int size = Math.Max(ids.Values.DefaultIfEmpty(-1).Max(), added.Values.DefaultIfEmpty(-1).Max()) + 1;
        if (size > LargestId || ids.Values.Concat(added.Values).Any(id => id < 0))
        {
            throw new InvalidInputException($"Cannot read tokenizer '{path}': token ids must lie between 0 and {LargestId - 1}, but one is {(size > LargestId ? size - 1 : ids.Values.Min())}; the file is damaged.");
        }

        var tokens = new byte[size][];
        Array.Fill(tokens, []);
        foreach ((string token, int id) in ids.Where(token => !added.ContainsKey(token.Key)))
        {
            Place(tokens, id, ByteAlphabet.TryRead(token), token, path);
        }

        foreach ((string content, int id) in added)
        {
            Place(tokens, id, content.Length == 0 ? null : Encoding.UTF8.GetBytes(content), content, path);
        }

        return Assemble(path, tokens, ids, merges, added);
    }

    private static BytePairTokenizer Assemble(string path, byte[][] tokens, Dictionary<string, int> ids, IEnumerable<(string Left, string Right)> merges, Dictionary<string, int> added)
    {
        List<(int, int)> mergedIds = [];
        foreach ((string left, string right) in merges)
        {
            string? unknown = !ids.TryGetValue(left, out int leftId) ? left : !ids.ContainsKey(right) ? right : null;
            mergedIds.Add(unknown is null
                ? (leftId, ids[right])
                : throw new InvalidInputException($"Cannot read tokenizer '{path}': merge '{left} {right}' uses '{unknown}', which is not in the vocabulary; the file is damaged."));
        }

        try
        {
            return new BytePairTokenizer(tokens, mergedIds, added);
        }
        catch (InvalidInputException exception)
        {
            throw new InvalidInputException($"Cannot read tokenizer '{path}': {exception.Message}", exception);
        }
    }

    private static void Place(byte[][] tokens, int id, byte[]? bytes, string token, string path)
    {
        if (bytes is null or [])
        {
            throw new InvalidInputException($"Cannot read tokenizer '{path}': token '{token}' (id {id}) is not written in the byte-level alphabet; only byte-level vocabularies are supported.");
        }

        if (tokens[id].Length > 0)
        {
            throw new InvalidInputException($"Cannot read tokenizer '{path}': id {id} belongs to '{Encoding.UTF8.GetString(tokens[id])}' and to '{token}'; the file is damaged.");
        }

        tokens[id] = bytes;
    }

    private static JsonDocument Parse(string path)
    {
        try
        {
            return JsonDocument.Parse(ReadAll(path));
        }
        catch (JsonException exception)
        {
            throw new InvalidInputException(
                $"Cannot read tokenizer '{path}': it is not valid JSON (line {exception.LineNumber + 1}, byte {exception.BytePositionInLine}); fetch or save it again.", exception);
        }
    }

    private static byte[] ReadAll(string path)
    {
        try
        {
            return File.ReadAllBytes(path);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new InvalidInputException($"Cannot read tokenizer file '{path}': {exception.Message.TrimEnd('.')}; check the name and its permissions.", exception);
        }
    }

    private static InvalidInputException Damaged(string path, Exception exception)
        => new($"Cannot read tokenizer '{path}': its JSON has not the form of a tokenizer ({exception.Message.TrimEnd('.')}); fetch or save it again.", exception);
}
