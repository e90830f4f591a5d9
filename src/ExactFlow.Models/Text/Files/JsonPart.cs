using System.Text.Json;
using ExactFlow.Tensors;

namespace ExactFlow.Models.Text.Files;

/// <summary>A value of a tokenizer's JSON with the path to it, so that errors say where they are.</summary>
/// <param name="Element">The value.</param>
/// <param name="Path">Such as <c>pre_tokenizer.pretokenizers[0]</c>.</param>
/// <param name="File">The file it stands in.</param>
internal readonly record struct JsonPart(JsonElement Element, string Path, string File)
{
    /// <summary>The component's kind.</summary>
    public string Type => this["type"].Text();

    /// <summary>A field that must be there.</summary>
    public JsonPart this[string name] => Find(name) ?? throw Wrong($"have '{name}'", Element.ValueKind == JsonValueKind.Object ? "it is missing" : Shown(Element));

    /// <summary>A field, or null if it is missing or null.</summary>
    public JsonPart? Find(string name)
    {
        if (Element.ValueKind != JsonValueKind.Object)
        {
            throw Wrong("be an object", Shown(Element));
        }

        return Element.TryGetProperty(name, out JsonElement value) && value.ValueKind != JsonValueKind.Null
            ? new JsonPart(value, Path.Length == 0 ? name : $"{Path}.{name}", File)
            : null;
    }

    /// <summary>The text.</summary>
    public string Text()
    {
        try
        {
            return Element.ValueKind == JsonValueKind.String ? Element.GetString()! : throw Wrong("be a text", Shown(Element));
        }
        catch (InvalidOperationException)
        {
            throw Wrong("be a text", "half of a surrogate pair stands in it");
        }
    }

    /// <summary>A text of one character.</summary>
    public string Character()
    {
        string text = Text();
        return text.EnumerateRunes().Count() == 1 ? text : throw Wrong("be one character", $"it is '{text}'");
    }

    /// <summary>The whole number.</summary>
    public int Whole() => Element.ValueKind == JsonValueKind.Number && Element.TryGetInt32(out int value) ? value : throw Wrong("be a whole number", Shown(Element));

    /// <summary>A truth value by name; missing or null is the fallback.</summary>
    public bool Flag(string name, bool fallback = false) => Find(name) is not { } part
        ? fallback
        : part.Element.ValueKind is JsonValueKind.True or JsonValueKind.False ? part.Element.GetBoolean() : throw part.Wrong("be true or false", Shown(part.Element));

    /// <summary>The elements of a list.</summary>
    public IEnumerable<JsonPart> Items()
    {
        if (Element.ValueKind != JsonValueKind.Array)
        {
            throw Wrong("be a list", Shown(Element));
        }

        return List(this);

        static IEnumerable<JsonPart> List(JsonPart part)
        {
            int index = 0;
            foreach (JsonElement item in part.Element.EnumerateArray())
            {
                yield return new JsonPart(item, $"{part.Path}[{index++}]", part.File);
            }
        }
    }

    /// <summary>Refuses fields that this program does not know, since they may change ids.</summary>
    public JsonPart Only(params ReadOnlySpan<string> known)
    {
        foreach (JsonProperty field in Element.EnumerateObject())
        {
            string name = NameOf(field);
            if (name != "type" && !known.Contains(name))
            {
                throw Unsupported($"the setting '{name}'");
            }
        }

        return this;
    }

    /// <summary>Refuses what is no text in any text or name within, whether or not it is ever looked at.</summary>
    public JsonPart WithTexts()
    {
        if (Element.ValueKind == JsonValueKind.String)
        {
            _ = Text();
        }
        else if (Element.ValueKind == JsonValueKind.Array)
        {
            foreach (JsonPart item in Items())
            {
                _ = item.WithTexts();
            }
        }
        else if (Element.ValueKind == JsonValueKind.Object)
        {
            foreach (JsonProperty field in Element.EnumerateObject())
            {
                _ = new JsonPart(field.Value, $"{Path}.{NameOf(field)}", File).WithTexts();
            }
        }

        return this;
    }

    /// <summary>The name of a field.</summary>
    public string NameOf(JsonProperty field)
    {
        try
        {
            return field.Name;
        }
        catch (InvalidOperationException)
        {
            throw Wrong("have names that are text", "half of a surrogate pair stands in one");
        }
    }

    /// <summary>The error for something that is there but not computed here.</summary>
    public InvalidInputException Unsupported(string what)
        => new($"Cannot use tokenizer '{File}': {(Path.Length == 0 ? "it" : $"its {Path}")} has {what}, which is not supported; use another tokenizer, or train one (exactflow tokenizer train).");

    /// <summary>The error for a value that cannot be.</summary>
    public InvalidInputException Wrong(string expected, string found)
        => new($"Cannot read tokenizer '{File}': {(Path.Length == 0 ? "the file" : $"'{Path}'")} must {expected}, but {found}; fetch or save it again.");

    private static string Shown(JsonElement element) => element.ValueKind switch
    {
        JsonValueKind.Object => "it is an object",
        JsonValueKind.Array => "it is a list",
        _ => $"it is {(element.GetRawText() is { Length: > 40 } text ? text[..40] + "..." : element.GetRawText())}",
    };
}
