namespace ExactFlow.Models.Text.PreTokenizers;

/// <summary>Cuts at the matches of something.</summary>
/// <param name="matches">Ranges of bytes of a text, in order and apart.</param>
/// <param name="behavior">What becomes of the matches.</param>
/// <param name="invert">Whether what lies between matches counts as match, and the other way round.</param>
/// <param name="isLocal">Whether each character alone decides whether it matches.</param>
internal sealed class SplitPreTokenizer(SplitPreTokenizer.MatchFinder matches, SplitBehavior behavior, bool invert, bool isLocal) : PreTokenizer
{
    /// <summary>Finds matches.</summary>
    public delegate List<Range> MatchFinder(ReadOnlySpan<byte> text);

    /// <inheritdoc/>
    public override bool IsLocal => isLocal;

    /// <inheritdoc/>
    public override void Cut(ReadOnlySpan<byte> text, bool isAtStart, IWordSink sink)
    {
        int wordStart = 0;
        bool endsWithMatch = false;
        foreach ((int start, int end, bool isMatch) in Pieces(matches(text), text.Length))
        {
            bool joins = start > wordStart && behavior switch
            {
                SplitBehavior.MergedWithPrevious => isMatch && !endsWithMatch,
                SplitBehavior.MergedWithNext => !isMatch && endsWithMatch,
                SplitBehavior.Contiguous => isMatch == endsWithMatch,
                _ => false,
            };
            if (!joins)
            {
                Give(text[wordStart..start], wordStart == 0, endsWithMatch);
                wordStart = start;
            }

            endsWithMatch = isMatch;
        }

        Give(text[wordStart..], wordStart == 0, endsWithMatch);

        void Give(ReadOnlySpan<byte> word, bool isFirst, bool isMatch)
        {
            if (!word.IsEmpty && !(isMatch && behavior == SplitBehavior.Removed))
            {
                sink.Take(word, isAtStart && isFirst);
            }
        }
    }

    /// <summary>Matches and what lies between them.</summary>
    private List<(int Start, int End, bool IsMatch)> Pieces(List<Range> found, int length)
    {
        List<(int, int, bool)> pieces = [];
        int position = 0;
        foreach (Range match in found)
        {
            (int start, int end) = (match.Start.Value, match.End.Value);
            if (start > position)
            {
                pieces.Add((position, start, invert));
            }

            pieces.Add((start, end, !invert));
            position = end;
        }

        if (position < length)
        {
            pieces.Add((position, length, invert));
        }

        return pieces;
    }
}
