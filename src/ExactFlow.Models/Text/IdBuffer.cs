namespace ExactFlow.Models.Text;

/// <summary>A growing list of token ids.</summary>
internal struct IdBuffer(int capacity)
{
    private int[] ids = new int[Math.Max(16, capacity)];

    /// <summary>Ids in it.</summary>
    public int Count { get; private set; }

    /// <summary>The ids; valid until the next change.</summary>
    public readonly ReadOnlySpan<int> Span => ids.AsSpan(0, Count);

    /// <summary>Appends one id.</summary>
    public void Append(int id) => Append(new ReadOnlySpan<int>(in id));

    /// <summary>Appends ids.</summary>
    public void Append(ReadOnlySpan<int> more)
    {
        if (Count + more.Length > ids.Length)
        {
            Array.Resize(ref ids, (int)Math.Min(Array.MaxLength, Math.Max(2L * ids.Length, (long)Count + more.Length)));
        }

        more.CopyTo(ids.AsSpan(Count));
        Count += more.Length;
    }

    /// <summary>Appends the first so many of three ids.</summary>
    public void AppendUpTo3(int first, int second, int third, int count)
    {
        if (Count + 3 > ids.Length)
        {
            Array.Resize(ref ids, 2 * ids.Length);
        }

        Span<int> place = ids.AsSpan(Count, 3);
        place[2] = third;
        place[1] = second;
        place[0] = first;
        Count += count;
    }

    /// <summary>Forgets all ids, keeping the memory.</summary>
    public void Clear() => Count = 0;
}
