namespace ExactFlow.Models.Text.PreTokenizers;

/// <summary>Cuts UTF-8 text into words; merges never cross the cuts.</summary>
internal abstract class PreTokenizer
{
    /// <summary>Whether it decides at each place by the characters beside it alone, so that cutting the text elsewhere before changes nothing.</summary>
    public virtual bool IsLocal => false;

    /// <summary>Hands the words of a text to a sink, in order.</summary>
    /// <param name="text">UTF-8; bytes that are no UTF-8 count as characters of their own.</param>
    /// <param name="isAtStart">Whether the whole text begins here, rather than an earlier part or an added token.</param>
    /// <param name="sink">Takes the words.</param>
    public abstract void Cut(ReadOnlySpan<byte> text, bool isAtStart, IWordSink sink);

    /// <summary>
    /// A place at or after <paramref name="from"/>, before a blank or a new line that follows something else, where a word is sure to begin whatever stands before and
    /// after, or the text's end: long texts are cut there and their parts worked on at the same time.
    /// </summary>
    public virtual int SafeCut(ReadOnlySpan<byte> text, int from) => text.Length;
}
