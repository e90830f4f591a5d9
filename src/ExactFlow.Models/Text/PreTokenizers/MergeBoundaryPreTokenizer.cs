namespace ExactFlow.Models.Text.PreTokenizers;

/// <summary>
/// Cuts text that the tokenizer itself leaves whole before every mark that follows something else. A model none of whose tokens has a mark there gives the same ids with
/// these cuts as without them, since no merge ever reaches across one; but words are short, and most are known from before.
/// </summary>
/// <param name="mark">What a blank has become, in UTF-8; empty if there is no such mark, and text stays whole.</param>
internal sealed class MergeBoundaryPreTokenizer(byte[] mark) : PreTokenizer
{
    /// <summary>Whether no token has the mark after something else.</summary>
    public static bool Holds(IEnumerable<byte[]> tokens, ReadOnlySpan<byte> mark)
    {
        foreach (byte[] token in tokens)
        {
            if (NextCut(token, mark, 0) < token.Length)
            {
                return false;
            }
        }

        return true;
    }

    /// <inheritdoc/>
    public override void Cut(ReadOnlySpan<byte> text, bool isAtStart, IWordSink sink)
    {
        for (int start = 0; start < text.Length;)
        {
            int end = NextCut(text, mark, start);
            sink.Take(text[start..end], isAtStart && start == 0);
            start = end;
        }
    }

    /// <summary>Before a blank that follows neither a blank nor a mark.</summary>
    public override int SafeCut(ReadOnlySpan<byte> text, int from) => mark.Length == 0 ? text.Length : CutBeforeBlank(text, from, mark);

    /// <summary>The first place from one on that is before a blank and follows neither a blank nor a mark.</summary>
    internal static int CutBeforeBlank(ReadOnlySpan<byte> text, int from, ReadOnlySpan<byte> mark)
    {
        for (int i = Math.Max(from, 1); i < text.Length; i++)
        {
            int skip = text[i..].IndexOf((byte)' ');
            if (skip < 0)
            {
                break;
            }

            i += skip;
            if (text[i - 1] != (byte)' ' && !text[..i].EndsWith(mark))
            {
                return i;
            }
        }

        return text.Length;
    }

    private static int NextCut(ReadOnlySpan<byte> text, ReadOnlySpan<byte> mark, int start)
    {
        if (mark.IsEmpty)
        {
            return text.Length;
        }

        int position = start;
        while (text[position..].StartsWith(mark))
        {
            position += mark.Length;
        }

        int at = text[position..].IndexOf(mark);
        return at < 0 ? text.Length : position + at;
    }
}
