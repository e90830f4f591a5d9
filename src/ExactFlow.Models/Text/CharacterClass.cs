using System.Globalization;
using System.Text;

namespace ExactFlow.Models.Text;

/// <summary>What pre-tokenizers tell apart: <c>\p{L}</c>, <c>\p{N}</c>, <c>\s</c>, and everything else (bytes that are no UTF-8 too).</summary>
internal enum CharacterClass : byte
{
    Other,
    Letter,
    Number,
    Space,
}

/// <summary>The classes of the characters of UTF-8 text.</summary>
internal static class CharacterClasses
{
    private static readonly CharacterClass[] BasicPlane = [.. Enumerable.Range(0, 0x10000).Select(code => Classify((char)code, CharUnicodeInfo.GetUnicodeCategory((char)code)))];

    /// <summary>The class of the character that begins at <paramref name="position"/>, and how many bytes it takes.</summary>
    public static CharacterClass At(ReadOnlySpan<byte> text, int position, out int length)
    {
        byte first = text[position];
        if (first < 0x80)
        {
            length = 1;
            return BasicPlane[first];
        }

        bool isCharacter = Rune.DecodeFromUtf8(text[position..], out Rune rune, out length) == System.Buffers.OperationStatus.Done;
        return isCharacter ? Of(rune) : CharacterClass.Other;
    }

    /// <summary>The class of the last character of a text.</summary>
    public static CharacterClass AtEnd(ReadOnlySpan<byte> text)
        => Rune.DecodeLastFromUtf8(text, out Rune rune, out _) == System.Buffers.OperationStatus.Done ? Of(rune) : CharacterClass.Other;

    /// <summary>Bytes of white space that a text begins with.</summary>
    public static int SpacesAtStart(ReadOnlySpan<byte> text)
    {
        int position = 0;
        while (position < text.Length && At(text, position, out int length) == CharacterClass.Space)
        {
            position += length;
        }

        return position;
    }

    /// <summary>Bytes of white space that a text ends with.</summary>
    public static int SpacesAtEnd(ReadOnlySpan<byte> text)
    {
        int end = text.Length;
        while (end > 0 && Rune.DecodeLastFromUtf8(text[..end], out Rune rune, out int length) == System.Buffers.OperationStatus.Done && Of(rune) == CharacterClass.Space)
        {
            end -= length;
        }

        return text.Length - end;
    }

    /// <summary>Whether a character is one of words, <c>\w</c> of Unicode Technical Standard 18: alphabetic, mark, decimal digit, connector, or a joiner.</summary>
    public static bool IsWord(Rune rune) => Rune.GetUnicodeCategory(rune) switch
    {
        <= UnicodeCategory.LetterNumber or UnicodeCategory.ConnectorPunctuation => true,
        UnicodeCategory.OtherSymbol => rune.Value is (>= 0x24B6 and <= 0x24E9) or (>= 0x1F130 and <= 0x1F149) or (>= 0x1F150 and <= 0x1F169) or (>= 0x1F170 and <= 0x1F189),
        _ => rune.Value is 0x200C or 0x200D,
    };

    private static CharacterClass Of(Rune rune)
        => rune.IsBmp ? BasicPlane[rune.Value] : Classify('\uFFFF', CharUnicodeInfo.GetUnicodeCategory(rune.Value));

    private static CharacterClass Classify(char character, UnicodeCategory category) => category switch
    {
        UnicodeCategory.UppercaseLetter or UnicodeCategory.LowercaseLetter or UnicodeCategory.TitlecaseLetter
            or UnicodeCategory.ModifierLetter or UnicodeCategory.OtherLetter => CharacterClass.Letter,
        UnicodeCategory.DecimalDigitNumber or UnicodeCategory.LetterNumber or UnicodeCategory.OtherNumber => CharacterClass.Number,
        _ => char.IsWhiteSpace(character) ? CharacterClass.Space : CharacterClass.Other,
    };
}
