using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace ExactFlow.Models.Text;

/// <summary>
/// Numbers byte strings 0, 1, 2, ... in the order they are first seen. Keys lie one after another in one array, so that counting the words of a text
/// makes no object per word.
/// </summary>
internal sealed class ByteStringTable
{
    private int[] slots = new int[64];
    private Entry[] entries = new Entry[32];
    private byte[] keys = new byte[256];
    private int keyBytes;

    /// <summary>Number of distinct strings.</summary>
    public int Count { get; private set; }

    /// <summary>A string by its number; valid until the next <see cref="GetOrAdd"/>.</summary>
    public ReadOnlySpan<byte> this[int index] => keys.AsSpan(entries[index].Start, entries[index].Length);

    /// <summary>The number of a string, a new one if it is new.</summary>
    public int GetOrAdd(ReadOnlySpan<byte> key, out bool isNew)
    {
        uint hash = Hash(key);
        int slot = SlotOf(key, hash);
        int index = slots[slot] - 1;
        isNew = index < 0;
        return isNew ? Add(key, hash, slot) : index;
    }

    /// <summary>The number of a string, or -1.</summary>
    public int Find(ReadOnlySpan<byte> key) => slots[SlotOf(key, Hash(key))] - 1;

    /// <summary>Forgets all strings, keeping the memory.</summary>
    public void Clear()
    {
        Array.Clear(slots);
        Count = 0;
        keyBytes = 0;
    }

    /// <summary>Eight bytes a step: multiply and fold, as the good short-key hashes do.</summary>
    private static uint Hash(ReadOnlySpan<byte> key)
    {
        const ulong Multiplier = 0x9E3779B97F4A7C15;
        ulong hash = (ulong)key.Length * Multiplier;
        ref byte first = ref MemoryMarshal.GetReference(key);
        int i = 0;
        for (; i + 8 <= key.Length; i += 8)
        {
            hash = Fold(hash ^ Unsafe.ReadUnaligned<ulong>(ref Unsafe.Add(ref first, i)));
        }

        ulong rest = 0;
        for (int shift = 0; i < key.Length; i++, shift += 8)
        {
            rest |= (ulong)key[i] << shift;
        }

        hash = Fold(hash ^ rest);
        return (uint)(hash ^ (hash >> 32));

        static ulong Fold(ulong value)
        {
            ulong high = Math.BigMul(value, Multiplier, out ulong low);
            return high ^ low;
        }
    }

    private int SlotOf(ReadOnlySpan<byte> key, uint hash)
    {
        int mask = slots.Length - 1;
        int slot = (int)hash & mask;
        while (slots[slot] != 0)
        {
            ref readonly Entry entry = ref entries[slots[slot] - 1];
            if (entry.Hash == hash && key.SequenceEqual(keys.AsSpan(entry.Start, entry.Length)))
            {
                break;
            }

            slot = (slot + 1) & mask;
        }

        return slot;
    }

    private int Add(ReadOnlySpan<byte> key, uint hash, int slot)
    {
        if (Count == entries.Length)
        {
            Array.Resize(ref entries, 2 * Count);
            slot = Grow(hash);
        }

        if (keyBytes + key.Length > keys.Length)
        {
            Array.Resize(ref keys, checked((int)BitOperations.RoundUpToPowerOf2((uint)(keyBytes + key.Length))));
        }

        key.CopyTo(keys.AsSpan(keyBytes));
        entries[Count] = new Entry(hash, keyBytes, key.Length);
        keyBytes += key.Length;
        slots[slot] = ++Count;
        return Count - 1;
    }

    /// <summary>Doubles the slots, which stay at least half free; returns the free slot for a hash.</summary>
    private int Grow(uint hash)
    {
        slots = new int[2 * entries.Length];
        int mask = slots.Length - 1;
        for (int i = 0; i < Count; i++)
        {
            slots[FreeSlot(entries[i].Hash)] = i + 1;
        }

        return FreeSlot(hash);

        int FreeSlot(uint wanted)
        {
            int slot = (int)wanted & mask;
            while (slots[slot] != 0)
            {
                slot = (slot + 1) & mask;
            }

            return slot;
        }
    }

    private readonly record struct Entry(uint Hash, int Start, int Length);
}
