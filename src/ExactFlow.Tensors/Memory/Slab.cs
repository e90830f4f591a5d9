namespace ExactFlow.Tensors.Memory;

/// <summary>
/// One stretch of memory handed out in pieces: always the first place that is large enough, neighbours joined when they come back. Where a piece lies depends
/// on the order of requests alone, not on how much room is left behind, so a dry run tells how long the stretch has to be.
/// </summary>
/// <param name="start">Address of the stretch.</param>
/// <param name="length">Its bytes.</param>
internal sealed class Slab(nint start, long length)
{
    /// <summary>What the most demanding kernels want of an address.</summary>
    private const long Alignment = 512;

    private readonly SortedList<long, long> gaps = new() { [0] = length };

    /// <summary>The end of the last piece ever handed out, in bytes from the start.</summary>
    public long HighWater { get; private set; }

    /// <summary>Pieces handed out now.</summary>
    public int Pieces { get; private set; }

    /// <summary>A piece of at least <paramref name="bytes"/> bytes, or null when there is no gap of that size.</summary>
    public DeviceBuffer? Take(long bytes)
    {
        long size = Round(bytes);
        for (int i = 0; i < gaps.Count; i++)
        {
            long offset = gaps.GetKeyAtIndex(i), gap = gaps.GetValueAtIndex(i);
            if (gap < size)
            {
                continue;
            }

            gaps.RemoveAt(i);
            if (gap > size)
            {
                gaps.Add(offset + size, gap - size);
            }

            HighWater = Math.Max(HighWater, offset + size);
            Pieces++;
            return new DeviceBuffer(start + (nint)offset, bytes) { Slab = this };
        }

        return null;
    }

    /// <summary>Takes a piece back.</summary>
    public void Put(DeviceBuffer piece)
    {
        long offset = piece.Address - start, end = offset + Round(piece.Capacity);
        int next = FirstAfter(offset);
        if (next < gaps.Count && gaps.GetKeyAtIndex(next) == end)
        {
            end += gaps.GetValueAtIndex(next);
            gaps.RemoveAt(next);
        }

        if (next > 0 && gaps.GetKeyAtIndex(next - 1) + gaps.GetValueAtIndex(next - 1) == offset)
        {
            offset = gaps.GetKeyAtIndex(next - 1);
            gaps.RemoveAt(next - 1);
        }

        gaps.Add(offset, end - offset);
        Pieces--;
    }

    private static long Round(long bytes) => (bytes + Alignment - 1) / Alignment * Alignment;

    private int FirstAfter(long offset)
    {
        int low = 0, high = gaps.Count;
        while (low < high)
        {
            int middle = (low + high) / 2;
            (low, high) = gaps.GetKeyAtIndex(middle) < offset ? (middle + 1, high) : (low, middle);
        }

        return low;
    }
}
