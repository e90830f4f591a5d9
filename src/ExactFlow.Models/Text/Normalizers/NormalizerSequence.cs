namespace ExactFlow.Models.Text.Normalizers;

/// <summary>Normalizers one after the other.</summary>
internal sealed class NormalizerSequence(IReadOnlyList<Normalizer> parts) : Normalizer
{
    /// <inheritdoc/>
    public override bool IsLocal => parts.All(part => part.IsLocal);

    /// <inheritdoc/>
    public override byte[]? Apply(ReadOnlySpan<byte> text, bool continues, ref bool dropsStart)
    {
        byte[]? current = null;
        foreach (Normalizer part in parts)
        {
            current = part.Apply(current is null ? text : current, continues, ref dropsStart) ?? current;
        }

        return current;
    }
}
