namespace ExactFlow.Models.Text.PreTokenizers;

/// <summary>
/// Between which neighbouring bytes no merge can ever reach, because no token of the model has the two side by side: text that the tokenizer leaves whole may be cut there
/// without changing an id, and then words are short, and most are known from before.
/// </summary>
internal sealed class MergeBoundaries
{
    private readonly bool[] allows = new bool[1 << 16];

    private MergeBoundaries()
    {
    }

    /// <summary>No boundary anywhere.</summary>
    public static MergeBoundaries None { get; } = new();

    /// <summary>Whether every blank that follows something else is a boundary.</summary>
    public bool AtBlanks { get; private init; }

    /// <summary>The boundaries of a vocabulary.</summary>
    /// <param name="tokens">The bytes of each token.</param>
    /// <param name="isKnown">
    /// Whether a character of one byte is a token. One side of a boundary must be such a character: unknown characters that touch may become one token.
    /// </param>
    public static MergeBoundaries Of(IReadOnlyList<byte[]> tokens, Func<byte, bool> isKnown)
    {
        bool[] known = [.. Enumerable.Range(0, 256).Select(value => value < 0x80 && isKnown((byte)value))];
        var allows = new bool[1 << 16];
        for (int pair = 0; pair < allows.Length; pair++)
        {
            // A byte from 80 to BF is within a character.
            allows[pair] = (known[pair >> 8] || known[pair & 0xFF]) && (pair & 0xC0) != 0x80;
        }

        foreach (byte[] token in tokens)
        {
            for (int i = 1; i < token.Length; i++)
            {
                allows[(token[i - 1] << 8) | token[i]] = false;
            }
        }

        MergeBoundaries result = new() { AtBlanks = Enumerable.Range(0, 256).All(value => value == ' ' || allows[(value << 8) | ' ']) };
        allows.CopyTo(result.allows, 0);
        return result;
    }

    /// <summary>The first boundary after a place, or the text's end.</summary>
    public int Next(ReadOnlySpan<byte> text, int start)
    {
        bool[] table = allows;
        int position = start + 1;
        while (position < text.Length && !table[(text[position - 1] << 8) | text[position]])
        {
            position++;
        }

        return position;
    }
}
