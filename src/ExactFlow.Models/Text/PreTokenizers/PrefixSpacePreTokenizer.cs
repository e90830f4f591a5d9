namespace ExactFlow.Models.Text.PreTokenizers;

/// <summary>Puts a blank before text that does not begin with one: <c>add_prefix_space</c> of byte-level tokenizers.</summary>
internal sealed class PrefixSpacePreTokenizer : PreTokenizer
{
    /// <inheritdoc/>
    public override bool IsLocal => true;

    /// <inheritdoc/>
    public override void Cut(ReadOnlySpan<byte> text, bool isAtStart, IWordSink sink)
    {
        if (!text.IsEmpty)
        {
            sink.Take(text[0] == (byte)' ' ? text : [(byte)' ', .. text], isAtStart);
        }
    }
}
