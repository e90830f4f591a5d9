namespace ExactFlow.Models.Text.Normalizers;

/// <summary>Replaces every occurrence of a text, from left to right.</summary>
internal sealed class ReplaceNormalizer(byte[] pattern, byte[] content) : Normalizer
{
    /// <summary>A pattern is found in one part or the other unless a cut could fall inside it; an empty one is found nowhere.</summary>
    public override bool IsLocal => pattern.AsSpan(Math.Min(1, pattern.Length)).IndexOfAny((byte)' ', (byte)'\n') < 0;

    /// <inheritdoc/>
    public override byte[]? Apply(ReadOnlySpan<byte> text, bool continues, ref bool dropsStart)
    {
        dropsStart |= content.Length == 0 && pattern.Length > 0 && text.StartsWith(pattern);
        return Replace(text, pattern, content);
    }

    /// <summary>The text with every occurrence of a pattern replaced, or null if there is none.</summary>
    public static byte[]? Replace(ReadOnlySpan<byte> text, ReadOnlySpan<byte> pattern, ReadOnlySpan<byte> content)
    {
        int count = pattern.IsEmpty ? 0 : text.Count(pattern);
        if (count == 0)
        {
            return null;
        }

        var result = new byte[checked(text.Length + ((content.Length - pattern.Length) * count))];
        Span<byte> rest = result;
        if (pattern.Length == 1 && content.Length == 3)
        {
            ReplaceByteByThree(text, pattern[0], content, rest);
            return result;
        }

        for (int at = text.IndexOf(pattern); at >= 0; at = text.IndexOf(pattern))
        {
            text[..at].CopyTo(rest);
            content.CopyTo(rest[at..]);
            rest = rest[(at + content.Length)..];
            text = text[(at + pattern.Length)..];
        }

        text.CopyTo(rest);
        return result;
    }

    /// <summary>The common case, a blank by U+2581: matches are too close together for searches to pay.</summary>
    private static void ReplaceByteByThree(ReadOnlySpan<byte> text, byte pattern, ReadOnlySpan<byte> content, Span<byte> result)
    {
        int written = 0;
        foreach (byte value in text)
        {
            if (value == pattern)
            {
                result[written + 2] = content[2];
                result[written + 1] = content[1];
                result[written] = content[0];
                written += 3;
            }
            else
            {
                result[written++] = value;
            }
        }
    }
}
