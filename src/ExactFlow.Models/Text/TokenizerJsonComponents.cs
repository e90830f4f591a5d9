using System.Text.Json;
using ExactFlow.Tensors;

namespace ExactFlow.Models.Text;

/// <summary>
/// Which components of a <c>tokenizer.json</c> this project computes. Anything else would give other ids without a word, so it is refused by name.
/// </summary>
internal static class TokenizerJsonComponents
{
    /// <summary>Checks every component that changes ids or text.</summary>
    /// <exception cref="InvalidInputException">A component or one of its settings is not supported.</exception>
    public static void RequireSupported(JsonElement root, string path)
    {
        RequireNull(root, "normalizer", path);
        RequireNull(root, "truncation", path);
        RequireNull(root, "padding", path);
        RequireByteLevel(root, "pre_tokenizer", path, isRequired: true);
        RequireByteLevel(root, "post_processor", path, isRequired: false);
        RequireByteLevel(root, "decoder", path, isRequired: true);
        RequireModel(root.GetProperty("model"), path);
        if (root.TryGetProperty("added_tokens", out JsonElement added) && added.ValueKind == JsonValueKind.Array)
        {
            foreach (JsonElement token in added.EnumerateArray())
            {
                RequirePlain(token, path);
            }
        }
    }

    private static void RequireNull(JsonElement root, string name, string path)
    {
        if (root.TryGetProperty(name, out JsonElement value) && value.ValueKind != JsonValueKind.Null)
        {
            throw Unsupported(path, $"the {name} {TypeOf(value)}");
        }
    }

    private static void RequireByteLevel(JsonElement root, string name, string path, bool isRequired)
    {
        if (!root.TryGetProperty(name, out JsonElement value) || value.ValueKind == JsonValueKind.Null)
        {
            if (isRequired)
            {
                throw Unsupported(path, $"a missing {name}");
            }

            return;
        }

        if (TypeOf(value) != "ByteLevel")
        {
            throw Unsupported(path, $"the {name} {TypeOf(value)}");
        }

        if (name == "pre_tokenizer" && (IsTrue(value, "add_prefix_space") || (value.TryGetProperty("use_regex", out JsonElement regex) && !regex.GetBoolean())))
        {
            throw Unsupported(path, $"the {name} ByteLevel with add_prefix_space or without use_regex");
        }
    }

    private static void RequireModel(JsonElement model, string path)
    {
        if (model.TryGetProperty("type", out JsonElement type) && type.GetString() != "BPE")
        {
            throw Unsupported(path, $"the model {type.GetString()}");
        }

        foreach (string setting in (ReadOnlySpan<string>)["dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix"])
        {
            if (model.TryGetProperty(setting, out JsonElement value) && value.ValueKind != JsonValueKind.Null && value.ToString() is not ("" or "0" or "0.0"))
            {
                throw Unsupported(path, $"the model setting {setting} = {value}");
            }
        }

        foreach (string setting in (ReadOnlySpan<string>)["byte_fallback", "ignore_merges"])
        {
            if (IsTrue(model, setting))
            {
                throw Unsupported(path, $"the model setting {setting}");
            }
        }
    }

    private static void RequirePlain(JsonElement token, string path)
    {
        foreach (string flag in (ReadOnlySpan<string>)["single_word", "lstrip", "rstrip"])
        {
            if (IsTrue(token, flag))
            {
                throw Unsupported(path, $"the flag {flag} of added token '{token.GetProperty("content").GetString()}'");
            }
        }
    }

    private static bool IsTrue(JsonElement parent, string name) => parent.TryGetProperty(name, out JsonElement value) && value.ValueKind == JsonValueKind.True;

    private static string TypeOf(JsonElement component)
        => component.ValueKind == JsonValueKind.Object && component.TryGetProperty("type", out JsonElement type) ? type.ToString() : component.ValueKind.ToString();

    private static InvalidInputException Unsupported(string path, string what)
        => new($"Cannot use tokenizer '{path}': it has {what}, which is not supported; use a byte-level BPE tokenizer like GPT-2's, or train one.");
}
