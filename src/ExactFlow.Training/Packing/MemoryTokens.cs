using System.Runtime.InteropServices;
using System.Security.Cryptography;

namespace ExactFlow.Training.Packing;

/// <summary>Tokens in memory, 16 bits each where they fit.</summary>
internal sealed class MemoryTokens : ITokenSequence
{
    private readonly ushort[]? narrow;
    private readonly int[]? wide;
    private readonly int[] starts;

    /// <summary>Copies tokens.</summary>
    /// <param name="tokens">All of them.</param>
    /// <param name="starts">Where documents begin, ascending; empty for one document.</param>
    public MemoryTokens(ReadOnlySpan<int> tokens, int[] starts)
    {
        this.starts = starts;
        if (tokens.ContainsAnyExceptInRange(0, ushort.MaxValue))
        {
            wide = tokens.ToArray();
            return;
        }

        narrow = new ushort[tokens.Length];
        for (int i = 0; i < tokens.Length; i++)
        {
            narrow[i] = (ushort)tokens[i];
        }
    }

    /// <inheritdoc/>
    public long Count => wide?.Length ?? narrow!.Length;

    /// <inheritdoc/>
    public string ContentHash()
        => Convert.ToHexStringLower(SHA256.HashData(wide is not null ? MemoryMarshal.AsBytes(wide.AsSpan()) : MemoryMarshal.AsBytes(narrow.AsSpan())));

    /// <inheritdoc/>
    public void Copy(long start, Span<int> destination)
    {
        if (wide is not null)
        {
            wide.AsSpan((int)start, destination.Length).CopyTo(destination);
            return;
        }

        ReadOnlySpan<ushort> source = narrow.AsSpan((int)start, destination.Length);
        for (int i = 0; i < source.Length; i++)
        {
            destination[i] = source[i];
        }
    }

    /// <inheritdoc/>
    public void AddDocumentStarts(long start, int length, int origin, List<int> starts)
    {
        int index = Array.BinarySearch(this.starts, (int)start + 1);
        for (index = index >= 0 ? index : ~index; index < this.starts.Length && this.starts[index] < start + length; index++)
        {
            starts.Add(origin + (int)(this.starts[index] - start));
        }
    }
}
