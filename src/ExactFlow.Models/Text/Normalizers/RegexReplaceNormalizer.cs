namespace ExactFlow.Models.Text.Normalizers;

/// <summary>Replaces every match of a pattern by a text; the pattern sees code points of the basic plane (see <see cref="CodePointPattern"/>).</summary>
internal sealed class RegexReplaceNormalizer(CodePointPattern pattern, byte[] content) : Normalizer
{
    /// <summary>A pattern may look at anything around a cut.</summary>
    public override bool IsLocal => false;

    /// <inheritdoc/>
    public override byte[]? Apply(ReadOnlySpan<byte> text, bool continues, ref bool dropsStart)
    {
        List<Range> matches = pattern.Matches(text);
        if (matches.Count == 0)
        {
            return null;
        }

        dropsStart |= content.Length == 0 && matches[0].Start.Value == 0;
        using MemoryStream result = new();
        int position = 0;
        foreach (Range match in matches)
        {
            result.Write(text[position..match.Start.Value]);
            result.Write(content);
            position = match.End.Value;
        }

        result.Write(text[position..]);
        return result.ToArray();
    }
}
