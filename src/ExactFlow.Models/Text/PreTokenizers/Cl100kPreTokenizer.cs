using System.Text;

namespace ExactFlow.Models.Text.PreTokenizers;

/// <summary>
/// The words of cl100k, Llama 3 and Qwen, a scanner equal to
/// <c>(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,n}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+</c>:
/// contractions in either case; runs of letters with one other character before them; at most n digits; runs of other characters with one blank before
/// and new lines after them; white space up to its last new line; white space but for the last character before a word.
/// </summary>
/// <param name="longestNumber">Digits of a word at most, the pattern's n: 1 for Qwen, 3 for the others.</param>
internal sealed class Cl100kPreTokenizer(int longestNumber) : WordScanner
{
    /// <inheritdoc/>
    public override int SafeCut(ReadOnlySpan<byte> text, int from) => CutBeforeAny(text, from, " "u8);

    /// <inheritdoc/>
    public override int WordEnd(ReadOnlySpan<byte> text, int start)
    {
        if (text[start] == (byte)'\'' && ContractionLength(text[(start + 1)..]) is > 0 and int contraction)
        {
            return start + 1 + contraction;
        }

        CharacterClass first = CharacterClasses.At(text, start, out int length);
        int second = start + length;
        if (first == CharacterClass.Letter)
        {
            return RunEnd(text, second, CharacterClass.Letter);
        }

        if (first == CharacterClass.Number)
        {
            return NumberEnd(text, second);
        }

        CharacterClass next = second < text.Length ? CharacterClasses.At(text, second, out length) : CharacterClass.Space;
        if (next == CharacterClass.Letter && text[start] is not ((byte)'\r' or (byte)'\n') && IsCharacter(text, start))
        {
            return RunEnd(text, second + length, CharacterClass.Letter);
        }

        if (first == CharacterClass.Other || (text[start] == (byte)' ' && next == CharacterClass.Other))
        {
            return NewLinesEnd(text, RunEnd(text, second, CharacterClass.Other));
        }

        return SpacesEnd(text, start);
    }

    /// <summary>A byte that is no UTF-8 is a word's start for no letters.</summary>
    private static bool IsCharacter(ReadOnlySpan<byte> text, int start)
        => text[start] < 0x80 || Rune.DecodeFromUtf8(text[start..], out _, out _) == System.Buffers.OperationStatus.Done;

    private static int ContractionLength(ReadOnlySpan<byte> rest)
    {
        if (rest.IsEmpty)
        {
            return 0;
        }

        int second = rest.Length > 1 ? rest[1] | 0x20 : 0;
        return ((char)(rest[0] | 0x20), (char)second) switch
        {
            ('s' or 't' or 'm' or 'd', _) when rest[0] >= 'A' => 1,
            ('r' or 'v', 'e') or ('l', 'l') when rest[0] >= 'A' && rest[1] >= 'A' => 2,
            _ => rest.StartsWith("\u017F"u8) ? 2 : 0, // the long s is an s in another case
        };
    }

    private int NumberEnd(ReadOnlySpan<byte> text, int position)
    {
        for (int digits = 1; digits < longestNumber && position < text.Length && CharacterClasses.At(text, position, out int length) == CharacterClass.Number; digits++)
        {
            position += length;
        }

        return position;
    }

    private static int NewLinesEnd(ReadOnlySpan<byte> text, int position)
    {
        while (position < text.Length && text[position] is (byte)'\r' or (byte)'\n')
        {
            position++;
        }

        return position;
    }

    /// <summary><c>\s*[\r\n]+|\s+(?!\S)|\s+</c>: up to the last new line of the run; without one, all of it at the text's end, else all but the last character.</summary>
    private static int SpacesEnd(ReadOnlySpan<byte> text, int start)
    {
        int position = start, last = start, afterNewLine = start;
        while (position < text.Length && CharacterClasses.At(text, position, out int length) == CharacterClass.Space)
        {
            last = position;
            position += length;
            afterNewLine = text[last] is (byte)'\r' or (byte)'\n' ? position : afterNewLine;
        }

        return afterNewLine > start ? afterNewLine : position == text.Length || last == start ? position : last;
    }
}
