using System.Buffers;
using System.Globalization;
using System.Text;

namespace ExactFlow.Models.Text.PreTokenizers;

/// <summary>Finders of matches to cut at.</summary>
internal static class Matches
{
    /// <summary>Every character of which something holds, by itself; bytes that are no UTF-8 never match.</summary>
    public static SplitPreTokenizer.MatchFinder OfCharacters(Func<Rune, bool> holds) => text => Find(text, holds, joins: false);

    /// <summary>Every run of characters of which something holds.</summary>
    public static SplitPreTokenizer.MatchFinder OfRuns(Func<Rune, bool> holds) => text => Find(text, holds, joins: true);

    /// <summary>Every occurrence of a text, from left to right.</summary>
    public static SplitPreTokenizer.MatchFinder Of(byte[] pattern) => text =>
    {
        List<Range> found = [];
        for (int position = 0; pattern.Length > 0 && text[position..].IndexOf(pattern) is >= 0 and int at;)
        {
            found.Add((position + at)..(position + at + pattern.Length));
            position += at + pattern.Length;
        }

        return found;
    };

    /// <summary>Words by <c>\w+|[^\w\s]+</c>.</summary>
    public static List<Range> OfWordsAndSymbols(ReadOnlySpan<byte> text)
    {
        List<Range> found = [];
        int start = 0, kindBefore = -1;
        for (int position = 0, length; position <= text.Length; position += length)
        {
            int kind = -1;
            length = 1;
            if (position < text.Length)
            {
                bool isCharacter = Rune.DecodeFromUtf8(text[position..], out Rune rune, out length) == OperationStatus.Done;
                kind = isCharacter && CharacterClasses.IsWord(rune) ? 1 : isCharacter && Rune.IsWhiteSpace(rune) ? -1 : 0;
            }

            if (kind != kindBefore)
            {
                if (kindBefore >= 0)
                {
                    found.Add(start..position);
                }

                start = position;
            }

            kindBefore = kind;
        }

        return found;
    }

    /// <summary>Punctuation as pre-tokenizers have it: the categories of punctuation, and ASCII symbols.</summary>
    public static bool IsPunctuation(Rune rune) => rune.IsAscii
        ? char.IsPunctuation((char)rune.Value) || char.IsSymbol((char)rune.Value)
        : Rune.GetUnicodeCategory(rune) is >= UnicodeCategory.ConnectorPunctuation and <= UnicodeCategory.OtherPunctuation;

    private static List<Range> Find(ReadOnlySpan<byte> text, Func<Rune, bool> holds, bool joins)
    {
        List<Range> found = [];
        for (int position = 0, length; position < text.Length; position += length)
        {
            if (Rune.DecodeFromUtf8(text[position..], out Rune rune, out length) != OperationStatus.Done || !holds(rune))
            {
                continue;
            }

            if (joins && found.Count > 0 && found[^1].End.Value == position)
            {
                found[^1] = found[^1].Start..(position + length);
            }
            else
            {
                found.Add(position..(position + length));
            }
        }

        return found;
    }
}
