namespace ExactFlow.Models.Text.Normalizers;

/// <summary>Takes white space off the ends.</summary>
internal sealed class StripNormalizer(bool left, bool right) : Normalizer
{
    /// <summary>The end of a part need not be the end of the text.</summary>
    public override bool IsLocal => !left && !right;

    /// <inheritdoc/>
    public override byte[]? Apply(ReadOnlySpan<byte> text, bool continues, ref bool dropsStart)
    {
        int start = left ? CharacterClasses.SpacesAtStart(text) : 0;
        int end = right && start < text.Length ? text.Length - CharacterClasses.SpacesAtEnd(text) : text.Length;
        dropsStart |= start > 0;
        return end - start == text.Length ? null : text[start..end].ToArray();
    }
}
