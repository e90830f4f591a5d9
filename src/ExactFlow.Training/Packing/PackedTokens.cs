using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;

namespace ExactFlow.Training.Packing;

/// <summary>Some documents of a packed corpus one after another, read where they lie.</summary>
internal sealed class PackedTokens : ITokenSequence
{
    private readonly PackedCorpus corpus;
    private readonly long[] sources;
    private readonly long[] positions;

    /// <summary>Documents, or parts of them.</summary>
    /// <param name="corpus">The corpus, which the caller keeps open.</param>
    /// <param name="parts">First token of each in the corpus, and its tokens, in the order to read them.</param>
    public PackedTokens(PackedCorpus corpus, IReadOnlyList<(long Start, long Tokens)> parts)
    {
        this.corpus = corpus;
        sources = new long[parts.Count];
        positions = new long[parts.Count + 1];
        for (int i = 0; i < parts.Count; i++)
        {
            sources[i] = parts[i].Start;
            positions[i + 1] = positions[i] + parts[i].Tokens;
        }
    }

    /// <inheritdoc/>
    public long Count => positions[^1];

    /// <summary>Number of documents.</summary>
    public int Documents => sources.Length;

    /// <summary>The checksums of the shards, which cover every token, and which documents these are.</summary>
    public string ContentHash()
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (TokenShard shard in corpus.Shards)
        {
            hash.AppendData(Encoding.ASCII.GetBytes(shard.Header.Checksum));
        }

        hash.AppendData(MemoryMarshal.AsBytes(sources.AsSpan()));
        hash.AppendData(MemoryMarshal.AsBytes(positions.AsSpan()));
        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    /// <inheritdoc/>
    public void Copy(long start, Span<int> destination)
    {
        for (int part = PartOf(start); !destination.IsEmpty; part++)
        {
            int count = (int)Math.Min(destination.Length, positions[part + 1] - start);
            corpus.Read(sources[part] + start - positions[part], destination[..count]);
            destination = destination[count..];
            start += count;
        }
    }

    /// <inheritdoc/>
    public void AddDocumentStarts(long start, int length, int origin, List<int> starts)
    {
        for (int part = PartOf(start) + 1; part < sources.Length && positions[part] < start + length; part++)
        {
            starts.Add(origin + (int)(positions[part] - start));
        }
    }

    private int PartOf(long position)
    {
        int index = Array.BinarySearch(positions, position);
        return index >= 0 ? index : ~index - 1;
    }
}
