using System.Numerics;

namespace ExactFlow.Models.Text;

/// <summary>Numbers pairs of token ids 0, 1, 2, ... in the order they are first seen: an open-addressing table of 64-bit keys.</summary>
internal sealed class PairTable
{
    private ulong[] keys;
    private int[] slots;

    /// <summary>An empty table.</summary>
    /// <param name="capacity">Pairs to make room for; it grows beyond.</param>
    public PairTable(int capacity = 0)
    {
        keys = new ulong[Math.Max(16, capacity)];
        slots = new int[2 * BitOperations.RoundUpToPowerOf2((uint)keys.Length)];
    }

    /// <summary>Number of distinct pairs.</summary>
    public int Count { get; private set; }

    /// <summary>A pair by its number.</summary>
    public (int Left, int Right) this[int index] => ((int)(keys[index] >> 32), (int)(uint)keys[index]);

    /// <summary>The number of a pair, or -1.</summary>
    public int Find(int left, int right) => slots[SlotOf(Key(left, right))] - 1;

    /// <summary>The number of a pair, a new one if it is new.</summary>
    public int GetOrAdd(int left, int right)
    {
        ulong key = Key(left, right);
        int slot = SlotOf(key);
        if (slots[slot] != 0)
        {
            return slots[slot] - 1;
        }

        if (Count == keys.Length)
        {
            Grow();
            slot = SlotOf(key);
        }

        keys[Count] = key;
        slots[slot] = ++Count;
        return Count - 1;
    }

    private static ulong Key(int left, int right) => ((ulong)(uint)left << 32) | (uint)right;

    private int SlotOf(ulong key)
    {
        int mask = slots.Length - 1;
        int slot = (int)((key * 0x9E3779B97F4A7C15) >> 32) & mask;
        while (slots[slot] != 0 && keys[slots[slot] - 1] != key)
        {
            slot = (slot + 1) & mask;
        }

        return slot;
    }

    private void Grow()
    {
        Array.Resize(ref keys, 2 * Count);
        slots = new int[2 * BitOperations.RoundUpToPowerOf2((uint)keys.Length)];
        for (int i = 0; i < Count; i++)
        {
            slots[SlotOf(keys[i])] = i + 1;
        }
    }
}
