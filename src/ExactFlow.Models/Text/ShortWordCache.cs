using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace ExactFlow.Models.Text;

/// <summary>
/// Ids of short words, a slot of 32 bytes each with the word in it: the word met last among those that share a slot. Most words of a text cost one look at one
/// cache line here.
/// </summary>
internal sealed class ShortWordCache
{
    /// <summary>Longest word that fits: two overlapping reads of eight bytes.</summary>
    public const int LongestWord = 16;

    private const int SlotBits = 15;
    private const int MostIds = 3;
    private readonly Slot[] slots = new Slot[1 << SlotBits];

    /// <summary>Appends the ids of a word if it is known.</summary>
    /// <param name="word">1 to <see cref="LongestWord"/> bytes.</param>
    /// <param name="output">Takes the ids.</param>
    /// <param name="slot">The word's slot, for <see cref="Remember"/>.</param>
    public bool TryAppend(ReadOnlySpan<byte> word, ref IdBuffer output, out int slot)
    {
        (ulong head, ulong tail) = Read(word);
        slot = IndexOf(head, tail, word.Length);
        ref readonly Slot known = ref slots[slot];
        if (known.Head != head || known.Tail != tail || known.Length != word.Length)
        {
            return false;
        }

        output.AppendUpTo3(known.First, known.Second, known.Third, known.Count);
        return true;
    }

    /// <summary>Puts a word's ids into its slot, if they are few.</summary>
    public void Remember(ReadOnlySpan<byte> word, ReadOnlySpan<int> ids, int slot)
    {
        if (ids.Length <= MostIds)
        {
            (ulong head, ulong tail) = Read(word);
            slots[slot] = new Slot(head, tail, (short)word.Length, (short)ids.Length, At(ids, 0), At(ids, 1), At(ids, 2));
        }

        static int At(ReadOnlySpan<int> ids, int index) => index < ids.Length ? ids[index] : 0;
    }

    /// <summary>Sixteen bytes that, with its length, say which word it is: its ends, which overlap or meet.</summary>
    private static (ulong Head, ulong Tail) Read(ReadOnlySpan<byte> word)
    {
        ref byte first = ref MemoryMarshal.GetReference(word);
        int length = word.Length;
        if (length >= 8)
        {
            return (Unsafe.ReadUnaligned<ulong>(ref first), Unsafe.ReadUnaligned<ulong>(ref Unsafe.Add(ref first, length - 8)));
        }

        ulong head = length >= 4
            ? Unsafe.ReadUnaligned<uint>(ref first) | ((ulong)Unsafe.ReadUnaligned<uint>(ref Unsafe.Add(ref first, length - 4)) << 32)
            : first | ((ulong)Unsafe.Add(ref first, length >> 1) << 8) | ((ulong)Unsafe.Add(ref first, length - 1) << 16);
        return (head, 0);
    }

    private static int IndexOf(ulong head, ulong tail, int length)
    {
        ulong hash = (head * 0x9E3779B97F4A7C15) ^ ((tail + (ulong)length) * 0xC2B2AE3D27D4EB4F);
        return (int)((hash ^ (hash >> 29)) * 0x9FB21C651E98DF25 >> (64 - SlotBits));
    }

    private readonly record struct Slot(ulong Head, ulong Tail, short Length, short Count, int First, int Second, int Third);
}
