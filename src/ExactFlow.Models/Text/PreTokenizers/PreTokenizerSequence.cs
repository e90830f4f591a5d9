namespace ExactFlow.Models.Text.PreTokenizers;

/// <summary>Pre-tokenizers one after the other: each cuts the words of the one before it.</summary>
internal sealed class PreTokenizerSequence(IReadOnlyList<PreTokenizer> parts) : PreTokenizer
{
    /// <inheritdoc/>
    public override bool IsLocal => parts.All(part => part.IsLocal);

    /// <inheritdoc/>
    public override void Cut(ReadOnlySpan<byte> text, bool isAtStart, IWordSink sink)
    {
        for (int i = parts.Count - 1; i > 0; i--)
        {
            sink = new Stage(parts[i], sink);
        }

        parts[0].Cut(text, isAtStart, sink);
    }

    /// <summary>A blank where one part begins a word whatever those before it did.</summary>
    public override int SafeCut(ReadOnlySpan<byte> text, int from)
    {
        foreach (PreTokenizer part in parts)
        {
            int cut = part.SafeCut(text, from);
            while (cut < text.Length && text[cut] != (byte)' ')
            {
                cut = part.SafeCut(text, cut + 1);
            }

            if (cut < text.Length || !part.IsLocal)
            {
                return cut;
            }
        }

        return text.Length;
    }

    private sealed class Stage(PreTokenizer part, IWordSink next) : IWordSink
    {
        public void Take(ReadOnlySpan<byte> word, bool isAtStart) => part.Cut(word, isAtStart, next);
    }
}
