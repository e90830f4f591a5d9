namespace ExactFlow.Models.Text;

/// <summary>Cuts UTF-8 text into words; merges never cross the cuts.</summary>
internal abstract class PreTokenizer
{
    /// <summary>The end of the word that begins at <paramref name="start"/>, always beyond it.</summary>
    public abstract int WordEnd(ReadOnlySpan<byte> text, int start);

    /// <summary>
    /// A place at or after <paramref name="from"/> where a word is sure to begin whatever stands before, or the text's end: long texts are cut there and
    /// their parts worked on at the same time.
    /// </summary>
    public abstract int SafeCut(ReadOnlySpan<byte> text, int from);
}
