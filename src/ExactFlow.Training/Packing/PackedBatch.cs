namespace ExactFlow.Training.Packing;

/// <summary>Documents that were encoded together.</summary>
/// <param name="Tokens">All their tokens as a shard keeps them.</param>
/// <param name="Documents">The documents, in order.</param>
/// <param name="TextBytes">Bytes of text of all of them.</param>
internal sealed record PackedBatch(ReadOnlyMemory<byte> Bytes, IReadOnlyList<PackedDocument> Documents, long TextBytes)
{
    /// <summary>All their tokens as a shard keeps them.</summary>
    public ReadOnlySpan<byte> Tokens => Bytes.Span;
}

/// <summary>An encoded document.</summary>
/// <param name="Tokens">Its tokens, the first one that all documents begin with included.</param>
/// <param name="Key">The beginning of the SHA-256 of its text.</param>
/// <param name="TextBytes">Bytes of its text.</param>
internal readonly record struct PackedDocument(int Tokens, ulong Key, int TextBytes);
