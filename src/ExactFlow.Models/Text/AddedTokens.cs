using System.Buffers;
using System.Text;

namespace ExactFlow.Models.Text;

/// <summary>
/// Finds added tokens in text: of several that begin at one place the longest counts, and the search goes on behind it (leftmost-longest, as Aho-Corasick automata have it).
/// </summary>
internal sealed class AddedTokens
{
    private const int MostNeedles = 8;

    private readonly Dictionary<int, Pattern[]> byPrefix;
    private readonly byte[][] needles;
    private readonly SearchValues<byte> firstBytes;

    /// <summary>Tokens with the contents to look for; tokens with an empty one are found nowhere.</summary>
    public AddedTokens(IEnumerable<(AddedToken Token, byte[] Content)> tokens)
    {
        Pattern[] all = [.. tokens.Where(token => token.Content.Length > 0).Select(token => new Pattern(token.Token, token.Content))];
        needles = [.. all.Select(pattern => pattern.Content[..Math.Min(2, pattern.Content.Length)]).DistinctBy(needle => Prefix(needle))];
        firstBytes = SearchValues.Create([.. needles.Select(needle => needle[0]).Distinct()]);
        byPrefix = all.GroupBy(pattern => Prefix(pattern.Content)).ToDictionary(group => group.Key, group => group.OrderByDescending(pattern => pattern.Content.Length).ToArray());
        AllowsCuts = all.All(pattern => !pattern.Token.SingleWord && !pattern.Token.RightStrip && !HasInnerBlank(pattern.Content));
    }

    /// <summary>Whether there is none.</summary>
    public bool IsEmpty => needles.Length == 0;

    /// <summary>Whether text may be cut before any blank or new line that follows something else without cutting a token or changing whether it counts.</summary>
    public bool AllowsCuts { get; }

    /// <summary>Looks through a text.</summary>
    /// <param name="text">UTF-8.</param>
    /// <param name="recogniseSpecial">Whether special tokens count; others always do.</param>
    public Search In(ReadOnlySpan<byte> text, bool recogniseSpecial) => new(this, text, recogniseSpecial);

    private static bool HasInnerBlank(ReadOnlySpan<byte> content)
    {
        for (int i = 1; i < content.Length; i++)
        {
            if (content[i] is (byte)' ' or (byte)'\n' && content[i - 1] is not ((byte)' ' or (byte)'\n'))
            {
                return true;
            }
        }

        return false;
    }

    private static int Prefix(ReadOnlySpan<byte> content) => content.Length > 1 ? content[0] | (content[1] << 8) : content[0] | (1 << 16);

    private Pattern? LongestAt(ReadOnlySpan<byte> text)
    {
        Pattern? best = text.Length > 1 ? FirstOf(Prefix(text[..2]), text) : null;
        return best ?? FirstOf(Prefix(text[..1]), text);
    }

    private Pattern? FirstOf(int prefix, ReadOnlySpan<byte> text)
    {
        if (byPrefix.TryGetValue(prefix, out Pattern[]? candidates))
        {
            foreach (Pattern candidate in candidates)
            {
                if (text.StartsWith(candidate.Content))
                {
                    return candidate;
                }
            }
        }

        return null;
    }

    private sealed record Pattern(AddedToken Token, byte[] Content);

    /// <summary>The tokens of one text, one after the other.</summary>
    public ref struct Search
    {
        private readonly AddedTokens tokens;
        private readonly ReadOnlySpan<byte> text;
        private readonly bool recogniseSpecial;
        private readonly int[] nextOfNeedle;
        private int position;

        internal Search(AddedTokens tokens, ReadOnlySpan<byte> text, bool recogniseSpecial)
        {
            this.tokens = tokens;
            this.text = text;
            this.recogniseSpecial = recogniseSpecial;
            nextOfNeedle = tokens.needles.Length <= MostNeedles ? new int[tokens.needles.Length] : [];
            nextOfNeedle.AsSpan().Fill(-1);
        }

        /// <summary>Where the token begins, with the white space it swallows.</summary>
        public int Start { get; private set; }

        /// <summary>Where it ends, with the white space it swallows; 0 before the first.</summary>
        public int End { get; private set; }

        /// <summary>Its id.</summary>
        public int Id { get; private set; }

        /// <summary>Finds the next token.</summary>
        public bool MoveNext()
        {
            while (!tokens.IsEmpty && FindCandidate())
            {
                Pattern? found = tokens.LongestAt(text[position..]);
                if (found is null)
                {
                    position++;
                    continue;
                }

                int start = position;
                position += found.Content.Length;
                if (Accept(found.Token, start, position))
                {
                    return true;
                }
            }

            return false;
        }

        private bool Accept(AddedToken token, int start, int end)
        {
            if ((token.IsSpecial && !recogniseSpecial) || (token.SingleWord && (WordEndsAt(start) || WordBeginsAt(end))))
            {
                return false;
            }

            Start = token.LeftStrip ? Math.Max(End, start - CharacterClasses.SpacesAtEnd(text[..start])) : start;
            End = token.RightStrip ? end + CharacterClasses.SpacesAtStart(text[end..]) : end;
            Id = token.Id;
            return true;
        }

        private readonly bool WordEndsAt(int end) => Rune.DecodeLastFromUtf8(text[..end], out Rune rune, out _) == OperationStatus.Done && CharacterClasses.IsWord(rune);

        private readonly bool WordBeginsAt(int start) => Rune.DecodeFromUtf8(text[start..], out Rune rune, out _) == OperationStatus.Done && CharacterClasses.IsWord(rune);

        /// <summary>Moves to the next place where the first two bytes of a token stand: each pair is searched for by itself, at the speed of memory.</summary>
        private bool FindCandidate()
        {
            if (nextOfNeedle.Length == 0)
            {
                int skip = text[position..].IndexOfAny(tokens.firstBytes);
                position += Math.Max(skip, 0);
                return skip >= 0;
            }

            int nearest = int.MaxValue;
            for (int i = 0; i < nextOfNeedle.Length; i++)
            {
                if (nextOfNeedle[i] < position)
                {
                    int at = text[position..].IndexOf(tokens.needles[i]);
                    nextOfNeedle[i] = at < 0 ? int.MaxValue : position + at;
                }

                nearest = Math.Min(nearest, nextOfNeedle[i]);
            }

            position = nearest == int.MaxValue ? text.Length : nearest;
            return nearest != int.MaxValue;
        }
    }
}
