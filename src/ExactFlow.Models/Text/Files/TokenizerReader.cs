using System.Text.Json;
using System.Text.Unicode;
using ExactFlow.Tensors;

namespace ExactFlow.Models.Text.Files;

/// <summary>Reads Hugging Face's <c>tokenizer.json</c>, and GPT-2's pair of vocabulary and merges.</summary>
internal static class TokenizerReader
{
    private const string EndOfText = "<|endoftext|>";

    /// <summary>Vocabularies have few gaps: no more ids than this many times their tokens, so that a damaged id claims no memory.</summary>
    private const int MostIdsPerToken = 4;
    private const int SmallestIdLimit = 1 << 16;

    /// <summary>Reads a file or folder; see <see cref="BytePairTokenizer.Load"/>.</summary>
    public static TokenizerParts Load(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        if (!Directory.Exists(path))
        {
            return ParseJson(ReadAll(path), path);
        }

        string json = Path.Combine(path, "tokenizer.json");
        if (File.Exists(json))
        {
            return ParseJson(ReadAll(json), json);
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

    /// <summary>Reads the bytes of a <c>tokenizer.json</c>.</summary>
    /// <param name="json">The bytes.</param>
    /// <param name="path">The file, for errors.</param>
    public static TokenizerParts ParseJson(ReadOnlyMemory<byte> json, string path)
    {
        using JsonDocument document = Parse(json, path);
        JsonPart root = new(document.RootElement, "", path);
        foreach (string part in (ReadOnlySpan<string>)["truncation", "padding"])
        {
            if (root.Find(part) is { } set)
            {
                throw set.Unsupported("settings");
            }
        }

        root.Only("version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder", "model");
        JsonPart model = root["model"];
        BytePairSettings settings = ReadSettings(model);
        Dictionary<string, int> vocabulary = ReadVocabulary(model["vocab"]);
        IReadOnlyList<AddedToken> added = root.Find("added_tokens") is { } list ? ReadAddedTokens(list, vocabulary) : [];
        if (settings.UnknownToken is { } unknown && !vocabulary.ContainsKey(unknown))
        {
            throw model["unk_token"].Wrong("name a token of the vocabulary", $"'{unknown}' is not in it");
        }

        JsonElement? Part(string name) => root.Find(name)?.WithTexts().Element.Clone();
        return new TokenizerParts
        {
            Source = path,
            Vocabulary = vocabulary,
            Merges = ReadMerges(model["merges"], vocabulary),
            Settings = settings,
            Added = added,
            Normalizer = Part("normalizer"),
            PreTokenizer = Part("pre_tokenizer"),
            PostProcessor = Part("post_processor"),
            Decoder = Part("decoder"),
        };
    }

    private static TokenizerParts LoadVocabularyAndMerges(string vocabularyPath, string mergesPath)
    {
        using JsonDocument document = Parse(ReadAll(vocabularyPath), vocabularyPath);
        Dictionary<string, int> vocabulary = ReadVocabulary(new JsonPart(document.RootElement, "", vocabularyPath));
        string[] lines = System.Text.Encoding.UTF8.GetString(ReadAll(mergesPath)).Split('\n');
        JsonPart place = new(document.RootElement, "merges", mergesPath);
        IEnumerable<(int, int)> merges = lines
            .Select(line => line.TrimEnd('\r'))
            .Where((line, index) => line.Length > 0 && !(index == 0 && line.StartsWith("#version", StringComparison.Ordinal)))
            .Select(line => IdsOf(SplitMerge(line, place), vocabulary, place));
        return new TokenizerParts
        {
            Source = vocabularyPath,
            Vocabulary = vocabulary,
            Merges = [.. merges],
            Settings = new BytePairSettings(),
            Added = vocabulary.TryGetValue(EndOfText, out int id) ? [new AddedToken(id, EndOfText) { IsSpecial = true }] : [],
        };
    }

    private static BytePairSettings ReadSettings(JsonPart model)
    {
        string type = model.Find("type")?.Text() ?? "BPE";
        if (type != "BPE")
        {
            throw model.Unsupported($"the type {type}");
        }

        model.Only("vocab", "merges", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", "byte_fallback", "ignore_merges");
        foreach (string setting in (ReadOnlySpan<string>)["dropout", "continuing_subword_prefix", "end_of_word_suffix"])
        {
            if (model.Find(setting) is { } value && value.Element.GetRawText() is not ("\"\"" or "0" or "0.0"))
            {
                throw model.Unsupported($"the setting {setting} = {Shortened(value.Element.GetRawText().ReplaceLineEndings(" "))}");
            }
        }

        return new BytePairSettings
        {
            UnknownToken = model.Find("unk_token")?.Text(),
            FuseUnknown = model.Flag("fuse_unk"),
            ByteFallback = model.Flag("byte_fallback"),
            IgnoreMerges = model.Flag("ignore_merges"),
        };
    }

    private static Dictionary<string, int> ReadVocabulary(JsonPart part)
    {
        if (part.Element.ValueKind != JsonValueKind.Object)
        {
            throw part.Wrong("be an object of tokens and ids", $"it is of kind {part.Element.ValueKind}");
        }

        int limit = IdLimit(part.Element.GetPropertyCount());
        Dictionary<string, int> ids = new(part.Element.GetPropertyCount(), StringComparer.Ordinal);
        foreach (JsonProperty token in part.Element.EnumerateObject())
        {
            string name = part.NameOf(token);
            JsonPart value = new(token.Value, part.Path, part.File);
            int id = value.Element.ValueKind == JsonValueKind.Number && value.Element.TryGetInt32(out int number)
                ? number
                : throw part.Wrong("have whole numbers as ids", $"that of '{name}' is {Shortened(value.Element.GetRawText())}");
            ids.Add(name, id >= 0 && id < limit ? id : throw part.Wrong($"have ids between 0 and {limit - 1}", $"that of '{name}' is {id}"));
        }

        return ids;
    }

    private static int IdLimit(int tokens) => Math.Max(SmallestIdLimit, (int)Math.Min(int.MaxValue / 2, (long)MostIdsPerToken * tokens));

    private static List<AddedToken> ReadAddedTokens(JsonPart list, Dictionary<string, int> vocabulary)
    {
        List<AddedToken> tokens = [];
        HashSet<string> contents = new(StringComparer.Ordinal);
        int limit = IdLimit(vocabulary.Count + list.Items().Count());
        foreach (JsonPart item in list.Items())
        {
            AddedToken token = new(item["id"].Whole(), item["content"].Text())
            {
                SingleWord = item.Flag("single_word"),
                LeftStrip = item.Flag("lstrip"),
                RightStrip = item.Flag("rstrip"),
                Normalized = item.Flag("normalized"),
                IsSpecial = item.Flag("special"),
            };
            item.Only("id", "content", "single_word", "lstrip", "rstrip", "normalized", "special");
            if (token.Id < 0 || token.Id >= limit)
            {
                throw item.Wrong($"have an id between 0 and {limit - 1}", $"it is {token.Id}");
            }

            if (vocabulary.TryGetValue(token.Content, out int id) && id != token.Id)
            {
                throw item.Wrong($"have the id that '{token.Content}' has in the vocabulary, {id}", $"it is {token.Id}");
            }

            tokens.Add(contents.Add(token.Content) ? token : throw item.Wrong("be a new token", $"'{token.Content}' stands twice"));
        }

        return [.. tokens.OrderBy(token => token.Id)];
    }

    private static List<(int, int)> ReadMerges(JsonPart merges, Dictionary<string, int> vocabulary)
    {
        List<(int, int)> ids = [];
        foreach (JsonPart merge in merges.Items())
        {
            if (merge.Element.ValueKind == JsonValueKind.Array)
            {
                ids.Add(merge.Items().ToArray() is [var left, var right]
                    ? IdsOf((left.Text(), right.Text()), vocabulary, merge)
                    : throw merge.Wrong("have two parts", $"it has {merge.Element.GetArrayLength()}"));
            }
            else
            {
                ids.Add(IdsOf(SplitMerge(merge.Text(), merge), vocabulary, merge));
            }
        }

        return ids;
    }

    private static (string Left, string Right) SplitMerge(string merge, JsonPart place)
    {
        int blank = merge.IndexOf(' ', StringComparison.Ordinal);
        return blank > 0 && blank == merge.LastIndexOf(' ') && blank < merge.Length - 1
            ? (merge[..blank], merge[(blank + 1)..])
            : throw place.Wrong("be two tokens with a blank between them", $"'{merge}' stands there");
    }

    private static (int Left, int Right) IdsOf((string Left, string Right) merge, Dictionary<string, int> vocabulary, JsonPart place)
    {
        string? unknown = !vocabulary.ContainsKey(merge.Left) ? merge.Left : !vocabulary.ContainsKey(merge.Right) ? merge.Right : null;
        return unknown is null ? (vocabulary[merge.Left], vocabulary[merge.Right]) : throw place.Wrong("join two tokens", $"'{unknown}' is not in the vocabulary");
    }

    private static string Shortened(string text) => text.Length > 40 ? text[..40] + "..." : text;

    private static JsonDocument Parse(ReadOnlyMemory<byte> json, string path)
    {
        if (!Utf8.IsValid(json.Span))
        {
            _ = Utf8.ToUtf16(json.Span, new char[json.Length], out int read, out _, replaceInvalidSequences: false);
            throw new InvalidInputException($"Cannot read tokenizer '{path}': it is not valid UTF-8 (byte {read}); fetch or save it again.");
        }

        try
        {
            return JsonDocument.Parse(json, new JsonDocumentOptions { AllowDuplicateProperties = false });
        }
        catch (JsonException exception)
        {
            string place = exception.LineNumber is { } line ? $"line {line + 1}, byte {exception.BytePositionInLine}" : exception.Message.TrimEnd('.');
            throw new InvalidInputException($"Cannot read tokenizer '{path}': it is not valid JSON ({place}); fetch or save it again.", exception);
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
}
