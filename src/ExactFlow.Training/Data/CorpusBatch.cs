using System.Buffers;

namespace ExactFlow.Training.Data;

/// <summary>Some entries of one file in memory that is returned to a pool by <see cref="Dispose"/>: documents of text, or lines of JSON.</summary>
public sealed class CorpusBatch : IDisposable
{
    private readonly byte[] buffer;
    private readonly int[] ends;

    /// <summary>Takes the buffer over.</summary>
    /// <param name="file">The file.</param>
    /// <param name="first">The place of the first entry.</param>
    /// <param name="buffer">Memory of the shared array pool that holds the entries from its beginning, one after another.</param>
    /// <param name="ends">Where each entry ends.</param>
    internal CorpusBatch(CorpusFile file, CorpusPosition first, byte[] buffer, int[] ends)
    {
        File = file;
        First = first;
        this.buffer = buffer;
        this.ends = ends;
    }

    /// <summary>The file.</summary>
    public CorpusFile File { get; }

    /// <summary>The place of the first entry.</summary>
    public CorpusPosition First { get; }

    /// <summary>Entries at the beginning that stand before the place from which was to be read.</summary>
    public int Skip { get; internal set; }

    /// <summary>The number of entries, those to skip included.</summary>
    public int Count => ends.Length;

    /// <summary>The place behind the last entry.</summary>
    public CorpusPosition End => First with { Entry = First.Entry + Count };

    /// <summary>Bytes of all entries.</summary>
    public int Length => ends.Length == 0 ? 0 : ends[^1];

    /// <summary>An entry.</summary>
    public ReadOnlySpan<byte> this[int index] => buffer.AsSpan(index == 0 ? 0 : ends[index - 1], ends[index] - (index == 0 ? 0 : ends[index - 1]));

    /// <inheritdoc/>
    public void Dispose() => ArrayPool<byte>.Shared.Return(buffer);
}
