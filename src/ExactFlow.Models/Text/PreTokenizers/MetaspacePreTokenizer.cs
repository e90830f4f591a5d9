using ExactFlow.Models.Text.Normalizers;

namespace ExactFlow.Models.Text.PreTokenizers;

/// <summary>SentencePiece's way with blanks: each becomes a visible mark (U+2581), one is put before the text, and words begin at marks.</summary>
/// <param name="mark">The mark in UTF-8.</param>
/// <param name="scheme">Where a mark is put before text that does not begin with one.</param>
/// <param name="splits">Whether words are cut before every mark.</param>
internal sealed class MetaspacePreTokenizer(byte[] mark, PrependScheme scheme, bool splits) : PreTokenizer
{
    /// <summary>Whether words are cut before every mark.</summary>
    public bool Splits => splits;

    /// <summary>Without cuts it is: text after a cut begins with a blank, so that no mark is put before it.</summary>
    public override bool IsLocal => !splits;

    /// <summary>Where a mark is put before text that does not begin with one.</summary>
    public PrependScheme Scheme => scheme;

    /// <inheritdoc/>
    public override void Cut(ReadOnlySpan<byte> text, bool isAtStart, IWordSink sink)
    {
        ReadOnlySpan<byte> marked = ReplaceNormalizer.Replace(text, " "u8, mark) ?? text;
        if (!marked.IsEmpty && (scheme == PrependScheme.Always || (scheme == PrependScheme.First && isAtStart)) && !marked.StartsWith(mark))
        {
            byte[] prepended = [.. mark, .. marked];
            marked = prepended;
        }

        while (splits)
        {
            int position = marked.StartsWith(mark) ? mark.Length : 0;
            int at = marked[position..].IndexOf(mark);
            if (at < 0)
            {
                break;
            }

            sink.Take(marked[..(position + at)], isAtStart);
            marked = marked[(position + at)..];
            isAtStart = false;
        }

        if (!marked.IsEmpty)
        {
            sink.Take(marked, isAtStart);
        }
    }

    /// <summary>Words begin at every blank, if they are cut at all.</summary>
    public override int SafeCut(ReadOnlySpan<byte> text, int from) => splits ? WholeTextPreTokenizer.CutBeforeBlank(text, from, mark) : text.Length;
}
