namespace ExactFlow.Models.Text.PreTokenizers;

/// <summary>A hand-written scanner for a known pattern: words follow one another without gaps.</summary>
internal abstract class WordScanner : PreTokenizer
{
    /// <summary>The end of the word that begins at <paramref name="start"/>, always beyond it.</summary>
    public abstract int WordEnd(ReadOnlySpan<byte> text, int start);

    /// <inheritdoc/>
    public sealed override void Cut(ReadOnlySpan<byte> text, bool isAtStart, IWordSink sink)
    {
        for (int start = 0; start < text.Length;)
        {
            int end = WordEnd(text, start);
            sink.Take(text[start..end], isAtStart && start == 0);
            start = end;
        }
    }

    /// <summary>The end of a run of characters of one class.</summary>
    protected static int RunEnd(ReadOnlySpan<byte> text, int position, CharacterClass wanted)
    {
        while (position < text.Length && CharacterClasses.At(text, position, out int length) == wanted)
        {
            position += length;
        }

        return position;
    }

    /// <summary>Before a blank, or one of other bytes, that follows a character that is not white space.</summary>
    protected static int CutBeforeAny(ReadOnlySpan<byte> text, int from, ReadOnlySpan<byte> bytes)
    {
        for (int i = Math.Max(from, 1); i < text.Length; i++)
        {
            int skip = text[i..].IndexOfAny(bytes);
            if (skip < 0)
            {
                break;
            }

            i += skip;
            if (CharacterClasses.AtEnd(text[..i]) != CharacterClass.Space)
            {
                return i;
            }
        }

        return text.Length;
    }
}
