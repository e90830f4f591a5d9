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
