using System.Buffers;
using System.Text;

namespace ExactFlow.Models.Text;

/// <summary>Tokens that are recognised in the text before anything else, such as <c>&lt;|endoftext|&gt;</c>; of several that begin at one place the longest counts.</summary>
internal sealed class SpecialTokens
{
    private readonly (byte[] Content, int Id)[] tokens;
    private readonly SearchValues<byte> firstBytes;

    /// <summary>Tokens by content.</summary>
    public SpecialTokens(IEnumerable<KeyValuePair<string, int>> tokens)
    {
        this.tokens = [.. tokens.Select(token => (Encoding.UTF8.GetBytes(token.Key), token.Value)).OrderByDescending(token => token.Item1.Length)];
        firstBytes = SearchValues.Create([.. this.tokens.Select(token => token.Content[0]).Distinct()]);
    }

    /// <summary>The first special token in a text, or -1 with the text's length.</summary>
    /// <param name="text">UTF-8.</param>
    /// <param name="start">Where it begins.</param>
    /// <param name="length">Its bytes.</param>
    /// <returns>Its id.</returns>
    public int FindFirst(ReadOnlySpan<byte> text, out int start, out int length)
    {
        for (start = 0; start < text.Length; start++)
        {
            int skip = text[start..].IndexOfAny(firstBytes);
            if (skip < 0)
            {
                break;
            }

            start += skip;
            foreach ((byte[] content, int id) in tokens)
            {
                if (text[start..].StartsWith(content))
                {
                    length = content.Length;
                    return id;
                }
            }
        }

        start = text.Length;
        length = 0;
        return -1;
    }
}
