namespace ExactFlow.Models.Text.PreTokenizers;

/// <summary>
/// The words of GPT-2, a scanner equal to the pattern <c>'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+</c>:
/// English contractions; runs of letters, digits or other characters, each with one blank before it if there is one; runs of white space, whose last character
/// is left to the word that follows.
/// </summary>
internal sealed class Gpt2PreTokenizer : WordScanner
{
    /// <inheritdoc/>
    public override int WordEnd(ReadOnlySpan<byte> text, int start)
    {
        int contraction = text[start] == (byte)'\'' ? ContractionLength(text[(start + 1)..]) : 0;
        if (contraction > 0)
        {
            return start + 1 + contraction;
        }

        int position = start;
        if (text[start] == (byte)' ' && start + 1 < text.Length)
        {
            position++;
        }

        CharacterClass first = CharacterClasses.At(text, position, out int length);
        return first == CharacterClass.Space ? SpacesEnd(text, start) : RunEnd(text, position + length, first);
    }

    /// <inheritdoc/>
    public override int SafeCut(ReadOnlySpan<byte> text, int from) => CutBeforeAny(text, from, " \n"u8);

    private static int ContractionLength(ReadOnlySpan<byte> rest)
    {
        if (rest.IsEmpty)
        {
            return 0;
        }

        byte second = rest.Length > 1 ? rest[1] : (byte)0;
        return (rest[0], second) switch
        {
            ((byte)'s' or (byte)'t' or (byte)'m' or (byte)'d', _) => 1,
            ((byte)'r' or (byte)'v', (byte)'e') or ((byte)'l', (byte)'l') => 2,
            _ => 0,
        };
    }

    /// <summary><c>\s+(?!\S)|\s+</c>: all of the run at the text's end, otherwise all but its last character, unless it is the only one.</summary>
    private static int SpacesEnd(ReadOnlySpan<byte> text, int start)
    {
        int position = start, last = start;
        while (position < text.Length && CharacterClasses.At(text, position, out int length) == CharacterClass.Space)
        {
            last = position;
            position += length;
        }

        return position == text.Length || last == start ? position : last;
    }
}
