using System.Text.Json;
using System.Text.Json.Nodes;
using ExactFlow.Tensors;

namespace ExactFlow.Models;

/// <summary>
/// Takes typed fields out of a JSON object one by one, so that what remains is what nobody knew. Errors name the file, the key and the value.
/// Python writes bare <c>Infinity</c> and <c>NaN</c>, which JSON does not have: they are read as, and written back from, marked strings.
/// </summary>
internal sealed class JsonFields
{
    private const string Marker = "\uE000bare:";
    private static readonly string[] BareWords = ["-Infinity", "Infinity", "NaN"];
    private readonly JsonObject fields;

    private JsonFields(JsonObject fields, string file)
    {
        this.fields = fields;
        File = file;
    }

    /// <summary>The file, for messages.</summary>
    public string File { get; }

    /// <summary>Parses the text of a JSON object.</summary>
    /// <exception cref="InvalidInputException">Not a JSON object, or a key occurs twice.</exception>
    public static JsonFields Parse(string text, string file)
    {
        ArgumentNullException.ThrowIfNull(text);
        JsonNode? node;
        try
        {
            node = JsonNode.Parse(MarkBareWords(text), null, new JsonDocumentOptions { AllowDuplicateProperties = false });
        }
        catch (JsonException exception)
        {
            string what = exception.LineNumber is { } line ? $"it is not valid JSON (line {line + 1}, byte {exception.BytePositionInLine})" : exception.Message.TrimEnd('.');
            throw new InvalidInputException($"Reading {file} failed: {what}; repair it, or fetch or save it again.", exception);
        }

        return new JsonFields(node as JsonObject ?? throw new InvalidInputException($"{file} must hold a JSON object, but holds {node?.GetValueKind().ToString() ?? "null"}."), file);
    }

    /// <summary>Parses the text of a JSON object to look at as it is, bare words as strings.</summary>
    /// <exception cref="InvalidInputException">As for <see cref="Parse"/>.</exception>
    public static JsonObject ParsePlain(string text, string file)
    {
        _ = Parse(text, file);
        return JsonNode.Parse(MarkBareWords(text).Replace(Marker, "", StringComparison.Ordinal))!.AsObject();
    }

    /// <summary>The text of an object, indented, with marked words bare again and a final newline.</summary>
    public static string Write(JsonObject json) => Unmark(json.ToJsonString(new JsonSerializerOptions { WriteIndented = true, NewLine = "\n" }) + "\n");

    /// <summary>Whether a key is there and not null.</summary>
    public bool Has(string key) => fields[key] is not null;

    /// <summary>What nobody took.</summary>
    public JsonObject Rest() => fields;

    /// <summary>Takes an integer; a missing or null one is the fallback, or an error without one.</summary>
    public int Int(string key, int? fallback = null) => OptionalInt(key) ?? fallback ?? throw Missing(key);

    /// <summary>Takes an integer that may be missing or null.</summary>
    public int? OptionalInt(string key)
    {
        JsonNode? node = Take(key);
        if (node is null)
        {
            return null;
        }

        return node is JsonValue value && value.TryGetValue(out double number) && number == Math.Floor(number) && Math.Abs(number) <= int.MaxValue
            ? (int)number
            : throw Wrong(key, node, "an integer");
    }

    /// <summary>Takes a number; a missing or null one is the fallback.</summary>
    public double Double(string key, double fallback) => OptionalDouble(key) ?? fallback;

    /// <summary>Takes a number that may be missing or null.</summary>
    public double? OptionalDouble(string key)
    {
        JsonNode? node = Take(key);
        if (node is null)
        {
            return null;
        }

        return node is JsonValue value && value.TryGetValue(out double number) ? number : throw Wrong(key, node, "a number");
    }

    /// <summary>Takes a truth value; a missing or null one is the fallback.</summary>
    public bool Bool(string key, bool fallback)
    {
        JsonNode? node = Take(key);
        if (node is null)
        {
            return fallback;
        }

        return node is JsonValue value && value.TryGetValue(out bool flag) ? flag : throw Wrong(key, node, "true or false");
    }

    /// <summary>Takes a text; a missing or null one is the fallback, or an error without one.</summary>
    public string Text(string key, string? fallback = null)
    {
        JsonNode? node = Take(key);
        if (node is null)
        {
            return fallback ?? throw Missing(key);
        }

        return node is JsonValue value && value.TryGetValue(out string? text) ? text : throw Wrong(key, node, "a text");
    }

    /// <summary>Takes one or more integers: a number, an array of numbers, or nothing.</summary>
    public int[] Ints(string key)
    {
        JsonNode? node = Take(key);
        switch (node)
        {
            case null:
                return [];
            case JsonArray array:
                return [.. array.Select(item => item is JsonValue value && value.TryGetValue(out int number) ? number : throw Wrong(key, node, "an integer or a list of integers"))];
            default:
                return node is JsonValue single && single.TryGetValue(out int only) ? [only] : throw Wrong(key, node, "an integer or a list of integers");
        }
    }

    /// <summary>Takes a key that is only supported with certain values: anything else is an error, missing or null is fine.</summary>
    public void Only(string key, params ReadOnlySpan<string> supported)
    {
        if (Take(key) is not { } node)
        {
            return;
        }

        string found = Show(node);
        foreach (string value in supported)
        {
            if (found == value)
            {
                return;
            }
        }

        string expected = supported.Length == 0 ? "null" : string.Join(" or ", supported.ToArray());
        throw new InvalidInputException($"In {File}, '{key}' is {found}, which is not supported; only {expected} is.");
    }

    /// <summary>Takes a key away if it has this value; keeps it among the rest otherwise.</summary>
    public void Ignore(string key, string value)
    {
        if (fields[key] is { } node && Show(node) == value)
        {
            fields.Remove(key);
        }
    }

    private static string Show(JsonNode node) => Unmark(node.ToJsonString());

    private static string Unmark(string text)
    {
        foreach (string word in BareWords)
        {
            text = text.Replace($"\"\\uE000bare:{word}\"", word, StringComparison.Ordinal);
        }

        return text;
    }

    private static string MarkBareWords(string text)
    {
        if (!text.Contains("Infinity", StringComparison.Ordinal) && !text.Contains("NaN", StringComparison.Ordinal))
        {
            return text;
        }

        var marked = new System.Text.StringBuilder(text.Length + 64);
        bool inString = false;
        for (int i = 0; i < text.Length; i++)
        {
            if (!inString && BareWordAt(text, i) is { } word)
            {
                marked.Append('"').Append(Marker).Append(word).Append('"');
                i += word.Length - 1;
                continue;
            }

            marked.Append(text[i]);
            if (text[i] == '"')
            {
                inString = !inString;
            }
            else if (inString && text[i] == '\\' && i + 1 < text.Length)
            {
                marked.Append(text[++i]);
            }
        }

        return marked.ToString();
    }

    private static string? BareWordAt(string text, int index)
    {
        foreach (string word in BareWords)
        {
            if (string.CompareOrdinal(text, index, word, 0, word.Length) == 0)
            {
                return word;
            }
        }

        return null;
    }

    private JsonNode? Take(string key)
    {
        JsonNode? node = fields[key];
        fields.Remove(key);
        return node;
    }

    private InvalidInputException Missing(string key) => new($"In {File}, the key '{key}' is missing; the model cannot be built without it.");

    private InvalidInputException Wrong(string key, JsonNode node, string expected) => new($"In {File}, '{key}' must be {expected}, but it is {Show(node)}.");
}
