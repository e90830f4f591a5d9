namespace ExactFlow.Models.Text.Decoders;

/// <summary>Takes up to so many of one character off the start and the end of each token.</summary>
/// <param name="content">The character.</param>
/// <param name="start">How many at the start at most.</param>
/// <param name="stop">How many at the end at most.</param>
/// <param name="next">Takes the results.</param>
internal sealed class StripStage(char content, int start, int stop, PieceSink next) : DecoderStage(next)
{
    private int leftAtStart;
    private int keptBack;
    private bool beginsNext;

    /// <inheritdoc/>
    public override void Take(ReadOnlySpan<char> text, bool beginsToken)
    {
        if (beginsToken)
        {
            leftAtStart = start;
            keptBack = 0;
            beginsNext = true;
        }

        int cut = 0;
        while (leftAtStart > 0 && cut < text.Length && text[cut] == content)
        {
            cut++;
            leftAtStart--;
        }

        text = text[cut..];
        if (text.IsEmpty)
        {
            return;
        }

        leftAtStart = 0;
        int trailing = text.Length - text.TrimEnd(content).Length;
        if (trailing < text.Length)
        {
            GiveKeptBack(keptBack);
            Give(text[..^trailing]);
            keptBack = 0;
        }

        keptBack += trailing;
        GiveKeptBack(keptBack - stop);
    }

    private void GiveKeptBack(int count)
    {
        for (; count > 0; count--, keptBack--)
        {
            Give([content]);
        }
    }

    private void Give(ReadOnlySpan<char> text)
    {
        Next.Take(text, beginsNext);
        beginsNext = false;
    }
}
