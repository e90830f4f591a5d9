namespace ExactFlow.Models.Text.Decoders;

/// <summary>Marks become blanks; those of the first token vanish if a mark was put before the text.</summary>
internal sealed class MetaspaceStage(char mark, bool prepends, PieceSink next) : DecoderStage(next)
{
    private int token = -1;

    /// <inheritdoc/>
    public override void Take(ReadOnlySpan<char> text, bool beginsToken)
    {
        token = beginsToken ? Math.Min(token + 1, 1) : token;
        string marked = text.ToString();
        Next.Take(token == 0 && prepends ? marked.Replace($"{mark}", "", StringComparison.Ordinal) : marked.Replace(mark, ' '), beginsToken);
    }
}
