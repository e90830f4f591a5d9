namespace ExactFlow.Models.Text.Decoders;

/// <summary>How tokens become text: stages, made anew for every text.</summary>
/// <param name="stages">Makes each stage before the next, in the order of the file.</param>
/// <param name="isByteLevel">Whether it is the byte-level decoder and nothing else.</param>
/// <param name="hasByteFallback">Whether byte tokens stand for bytes.</param>
internal sealed class DecoderChain(IReadOnlyList<Func<PieceSink, PieceSink>> stages, bool isByteLevel, bool hasByteFallback)
{
    /// <summary>Whether it is the byte-level decoder and nothing else.</summary>
    public bool IsByteLevel => isByteLevel;

    /// <summary>Whether byte tokens stand for bytes.</summary>
    public bool HasByteFallback => hasByteFallback;

    /// <summary>The first stage of a new text, the others behind it.</summary>
    public PieceSink Begin(TextSink end) => stages.Reverse().Aggregate((PieceSink)end, (next, make) => make(next));

    /// <summary>The text of a few tokens.</summary>
    public string Decode(params ReadOnlySpan<string> tokens)
    {
        TextSink end = new();
        PieceSink first = Begin(end);
        foreach (string token in tokens)
        {
            first.Take(token, beginsToken: true);
        }

        first.Finish();
        return end.Flush();
    }
}
