using ExactFlow.Models.Text.Normalizers;

namespace ExactFlow.Models.Text.PreTokenizers;

/// <summary>
/// Text that the file leaves whole, cut where no merge can reach across. Where blanks become marks (U+2581), by Metaspace or by a normalizer, the model's tokens have been
/// rewritten to hold blanks instead: text stays as it is, but for marks that stand in it, and the one before its start.
/// </summary>
/// <param name="mark">The mark in UTF-8; empty if blanks stay blanks.</param>
/// <param name="scheme">Where a mark is put before text that does not begin with one.</param>
/// <param name="boundaries">Where words may be cut.</param>
internal sealed class WholeTextPreTokenizer(byte[] mark, PrependScheme scheme, MergeBoundaries boundaries) : PreTokenizer
{
    /// <inheritdoc/>
    public override bool IsLocal => true;

    /// <inheritdoc/>
    public override void Cut(ReadOnlySpan<byte> text, bool isAtStart, IWordSink sink)
    {
        text = ReplaceNormalizer.Replace(text, mark, " "u8) ?? text;
        if (!text.IsEmpty && text[0] != (byte)' ' && (scheme == PrependScheme.Always || (scheme == PrependScheme.First && isAtStart)))
        {
            // The first words take the blank along, as far as the next one: copying no more than that.
            int blank = boundaries.AtBlanks ? text.IndexOf((byte)' ') : -1;
            int length = blank < 0 ? text.Length : blank;
            byte[] prefixed = [(byte)' ', .. text[..length]];
            CutPlain(prefixed, isAtStart, sink);
            text = text[length..];
            isAtStart = false;
        }

        CutPlain(text, isAtStart, sink);
    }

    /// <summary>Before a blank that follows neither a blank nor a mark.</summary>
    public override int SafeCut(ReadOnlySpan<byte> text, int from) => boundaries.AtBlanks ? CutBeforeBlank(text, from, mark) : text.Length;

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
            if (text[i - 1] != (byte)' ' && (mark.IsEmpty || !text[..i].EndsWith(mark)))
            {
                return i;
            }
        }

        return text.Length;
    }

    private void CutPlain(ReadOnlySpan<byte> text, bool isAtStart, IWordSink sink)
    {
        for (int start = 0; start < text.Length;)
        {
            int end = boundaries.Next(text, start);
            sink.Take(text[start..end], isAtStart && start == 0);
            start = end;
        }
    }
}
