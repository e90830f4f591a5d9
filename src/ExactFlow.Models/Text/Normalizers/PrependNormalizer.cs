namespace ExactFlow.Models.Text.Normalizers;

/// <summary>Puts a text before every piece that is not empty.</summary>
internal sealed class PrependNormalizer(byte[] prefix) : Normalizer
{
    /// <inheritdoc/>
    public override bool IsLocal => true;

    /// <inheritdoc/>
    public override byte[]? Apply(ReadOnlySpan<byte> text, bool continues, ref bool dropsStart) => continues || text.IsEmpty || prefix.Length == 0 ? null : [.. prefix, .. text];
}
