namespace ExactFlow.Models.Text.Decoders;

/// <summary>Joins all tokens to one.</summary>
internal sealed class FuseStage(PieceSink next) : DecoderStage(next)
{
    private bool isFirst = true;

    /// <inheritdoc/>
    public override void Take(ReadOnlySpan<char> text, bool beginsToken)
    {
        Next.Take(text, isFirst);
        isFirst = false;
    }
}
