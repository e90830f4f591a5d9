using System.Text;
using ExactFlow.Models.Text.Decoders;
using ExactFlow.Models.Text.Normalizers;

namespace ExactFlow.Models.Text.Files;

/// <summary>Reads the <c>decoder</c> of a <c>tokenizer.json</c>.</summary>
internal sealed class DecoderReader
{
    private readonly List<Func<PieceSink, PieceSink>> stages = [];
    private bool isFused;
    private bool hasByteLevel;
    private bool hasByteFallback;

    private DecoderReader()
    {
    }

    /// <summary>Reads a decoder; null is none.</summary>
    /// <exception cref="Tensors.InvalidInputException">It is damaged, or of a kind that is not computed here, which is named.</exception>
    public static DecoderChain Read(JsonPart? part)
    {
        DecoderReader reader = new();
        if (part is { } given)
        {
            reader.Add(given);
        }
        else
        {
            reader.stages.Add(next => new JoinStage(next));
        }

        return new DecoderChain(reader.stages, reader.hasByteLevel && reader.stages.Count == 1, reader.hasByteFallback);
    }

    private void Add(JsonPart part)
    {
        switch (part.Type)
        {
            case "Sequence":
                foreach (JsonPart item in part.Only("decoders")["decoders"].Items())
                {
                    Add(item);
                }

                break;
            case "ByteLevel":
                RequireTokens(part.Only("add_prefix_space", "trim_offsets", "use_regex"));
                stages.Add(next => new ByteLevelStage(next));
                isFused = hasByteLevel = true;
                break;
            case "ByteFallback":
                RequireTokens(part.Only());
                stages.Add(next => new ByteFallbackStage(next));
                hasByteFallback = true;
                break;
            case "Fuse":
                _ = part.Only();
                stages.Add(next => new FuseStage(next));
                isFused = true;
                break;
            case "Metaspace":
                AddMetaspace(part.Only("replacement", "prepend_scheme", "split", "add_prefix_space", "str_rep"));
                break;
            case "Strip":
                AddStrip(part.Only("content", "start", "stop"));
                break;
            case "Replace":
                AddReplace(part.Only("pattern", "content"));
                break;
            case string type:
                throw part.Unsupported($"the type {type}");
        }
    }

    private void RequireTokens(JsonPart part)
    {
        if (isFused)
        {
            throw part.Unsupported($"the type {part.Type} after all tokens have become one");
        }
    }

    private void AddMetaspace(JsonPart part)
    {
        char mark = Character(part["replacement"]);
        bool prepends = part.Find("prepend_scheme")?.Text() switch
        {
            null => part.Flag("add_prefix_space", fallback: true),
            "always" or "first" => true,
            "never" => false,
            string other => throw part.Unsupported($"the prepend_scheme '{other}'"),
        };
        stages.Add(next => new MetaspaceStage(mark, prepends, next));
    }

    private void AddStrip(JsonPart part)
    {
        char content = Character(part["content"]);
        (int start, int stop) = (part["start"].Whole(), part["stop"].Whole());
        if (start < 0 || stop < 0)
        {
            throw part.Wrong("strip 0 characters or more", $"it is {start} and {stop}");
        }

        stages.Add(next => new StripStage(content, start, stop, next));
    }

    private void AddReplace(JsonPart part)
    {
        string content = part["content"].Text();
        bool wasFused = isFused;
        Func<string, string> replace;
        if (PatternReader.Read(part["pattern"], out CodePointPattern? regex) is { } text)
        {
            replace = text.Length == 0 ? token => token : token => token.Replace(text, content, StringComparison.Ordinal);
        }
        else
        {
            RegexReplaceNormalizer rewrite = new(regex!, Encoding.UTF8.GetBytes(content));
            replace = rewrite.Apply;
        }

        stages.Add(next => new ReplaceStage(replace, wasFused, next));
    }

    private static char Character(JsonPart part) => part.Character() is [var only] ? only : throw part.Unsupported($"the character '{part.Text()}' beyond U+FFFF");
}
