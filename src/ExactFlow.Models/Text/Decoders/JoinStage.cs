namespace ExactFlow.Models.Text.Decoders;

/// <summary>Without a decoder, tokens stand with blanks between them.</summary>
internal sealed class JoinStage(PieceSink next) : DecoderStage(next)
{
    private bool isFirst = true;

    /// <inheritdoc/>
    public override void Take(ReadOnlySpan<char> text, bool beginsToken)
    {
        if (!isFirst)
        {
            Next.Take(" ", beginsToken: true);
        }

        isFirst = false;
        Next.Take(text, beginsToken: true);
    }
}
