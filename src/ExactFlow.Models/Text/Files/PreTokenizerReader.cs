using System.Text;
using ExactFlow.Models.Text.PreTokenizers;

namespace ExactFlow.Models.Text.Files;

/// <summary>Reads the <c>pre_tokenizer</c> of a <c>tokenizer.json</c>.</summary>
internal sealed class PreTokenizerReader
{
    private const string Contractions = @"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}";
    private const string AfterNumbers = @"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

    private readonly List<PreTokenizer> parts = [];

    private PreTokenizerReader()
    {
    }

    /// <summary>Whether words become bytes written in the byte-level alphabet.</summary>
    public bool IsByteLevel { get; private set; }

    /// <summary>The mark that Metaspace puts for a blank, or null.</summary>
    public string? Mark { get; private set; }

    /// <summary>What cuts words; null: text stays whole.</summary>
    public PreTokenizer? Result => parts.Count switch
    {
        0 => null,
        1 => parts[0],
        _ => new PreTokenizerSequence(parts),
    };

    /// <summary>Reads a pre-tokenizer; null is none.</summary>
    /// <exception cref="Tensors.InvalidInputException">It is damaged, or of a kind that is not computed here, which is named.</exception>
    public static PreTokenizerReader Read(JsonPart? part)
    {
        PreTokenizerReader reader = new();
        if (part is { } given)
        {
            reader.Add(given);
        }

        return reader;
    }

    private void Add(JsonPart part)
    {
        if (IsByteLevel)
        {
            throw part.Unsupported($"the type {part.Type} after ByteLevel");
        }

        switch (part.Type)
        {
            case "Sequence":
                foreach (JsonPart item in part.Only("pretokenizers")["pretokenizers"].Items())
                {
                    Add(item);
                }

                break;
            case "ByteLevel":
                AddByteLevel(part.Only("add_prefix_space", "trim_offsets", "use_regex"));
                break;
            case "Metaspace":
                AddMetaspace(part.Only("replacement", "prepend_scheme", "split", "add_prefix_space", "str_rep"));
                break;
            default:
                parts.Add(ReadSplitter(part));
                break;
        }
    }

    private void AddByteLevel(JsonPart part)
    {
        if (part.Flag("add_prefix_space", fallback: true))
        {
            parts.Add(new PrefixSpacePreTokenizer());
        }

        if (part.Flag("use_regex", fallback: true))
        {
            parts.Add(new Gpt2PreTokenizer());
        }

        IsByteLevel = true;
    }

    private void AddMetaspace(JsonPart part)
    {
        Mark = part["replacement"].Character();
        bool prepends = part.Flag("add_prefix_space", fallback: true);
        PrependScheme scheme = part.Find("prepend_scheme")?.Text() switch
        {
            null => prepends ? PrependScheme.Always : PrependScheme.Never,
            "always" => PrependScheme.Always,
            "first" => PrependScheme.First,
            "never" => PrependScheme.Never,
            string other => throw part.Unsupported($"the prepend_scheme '{other}'"),
        };
        parts.Add(new MetaspacePreTokenizer(Encoding.UTF8.GetBytes(Mark), scheme, part.Flag("split", fallback: true)));
    }

    private static PreTokenizer ReadSplitter(JsonPart part) => part.Type switch
    {
        "Split" => ReadSplit(part.Only("pattern", "behavior", "invert")),
        "Digits" => part.Only("individual_digits").Flag("individual_digits")
            ? Local(Matches.OfCharacters(Rune.IsNumber), SplitBehavior.Isolated)
            : Local(Matches.OfCharacters(Rune.IsNumber), SplitBehavior.Contiguous),
        "Punctuation" => Local(Matches.OfCharacters(Matches.IsPunctuation), Behavior(part.Only("behavior").Find("behavior"))),
        "WhitespaceSplit" => Local(Matches.OfCharacters(Rune.IsWhiteSpace), SplitBehavior.Removed),
        "Whitespace" => new SplitPreTokenizer(Matches.OfWordsAndSymbols, SplitBehavior.Removed, invert: true, isLocal: true),
        "CharDelimiterSplit" => Local(Matches.Of(Encoding.UTF8.GetBytes(part.Only("delimiter")["delimiter"].Character())), SplitBehavior.Removed),
        string type => throw part.Unsupported($"the type {type}"),
    };

    private static SplitPreTokenizer Local(SplitPreTokenizer.MatchFinder matches, SplitBehavior behavior) => new(matches, behavior, invert: false, isLocal: true);

    private static PreTokenizer ReadSplit(JsonPart part)
    {
        SplitBehavior behavior = Behavior(part["behavior"]);
        bool invert = part.Flag("invert");
        if (part["pattern"].Find("Regex") is { } expression && KnownPattern(expression.Text()) is { } scanner && (behavior == SplitBehavior.Isolated || (behavior == SplitBehavior.Removed && invert)))
        {
            return scanner;
        }

        return PatternReader.Read(part["pattern"], out CodePointPattern? regex) is { } text
            ? new SplitPreTokenizer(Matches.Of(Encoding.UTF8.GetBytes(text)), behavior, invert, isLocal: false)
            : new SplitPreTokenizer(regex!.Matches, behavior, invert, isLocal: false);
    }

    /// <summary>A hand-written scanner for the patterns of widely used tokenizers, which leave no gaps; others take the general way.</summary>
    private static WordScanner? KnownPattern(string pattern) => pattern switch
    {
        @"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+" => new Gpt2PreTokenizer(),
        Contractions + AfterNumbers => new Cl100kPreTokenizer(longestNumber: 1),
        Contractions + "{1,3}" + AfterNumbers => new Cl100kPreTokenizer(longestNumber: 3),
        _ => null,
    };

    private static SplitBehavior Behavior(JsonPart? part) => part?.Text() switch
    {
        "Removed" => SplitBehavior.Removed,
        null or "Isolated" => SplitBehavior.Isolated,
        "MergedWithPrevious" => SplitBehavior.MergedWithPrevious,
        "MergedWithNext" => SplitBehavior.MergedWithNext,
        "Contiguous" => SplitBehavior.Contiguous,
        string other => throw part!.Value.Unsupported($"the behavior '{other}'"),
    };
}
