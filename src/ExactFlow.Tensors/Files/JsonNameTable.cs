using System.Numerics;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;

namespace ExactFlow.Tensors.Files;

/// <summary>
/// A set of the property names of a JSON object that stays small however many there are: names are kept as positions in the JSON, not as strings
/// (at most 19 bytes a name), and compared after unescaping, so that <c>"a"</c> and <c>"\u0061"</c> are one name.
/// </summary>
/// <param name="json">The whole JSON, valid UTF-8.</param>
/// <param name="capacity">How many names will be added at most.</param>
internal sealed class JsonNameTable(byte[] json, int capacity)
{
    /// <summary>Longest name in bytes, escaped or not.</summary>
    public const int MaximumNameBytes = 4096;

    private readonly NamePosition[] names = new NamePosition[capacity];

    // Slots hold 1 + the index of a name; 0 is free. At most three quarters are taken.
    private readonly int[] slots = new int[BitOperations.RoundUpToPowerOf2((uint)Math.Max(4, capacity + (capacity / 3) + 1))];

    /// <summary>Names added.</summary>
    public int Count { get; private set; }

    /// <summary>A name as text.</summary>
    public string this[int index]
    {
        get
        {
            Span<byte> scratch = stackalloc byte[MaximumNameBytes];
            return Encoding.UTF8.GetString(Bytes(names[index], scratch));
        }
    }

    /// <summary>Adds the name that the reader stands on (at most <see cref="MaximumNameBytes"/>, escapes checked); false if it was there already.</summary>
    public bool TryAdd(ref Utf8JsonReader reader)
    {
        NamePosition name = new((int)reader.TokenStartIndex + 1, reader.ValueSpan.Length, reader.ValueIsEscaped);
        Span<byte> scratch = stackalloc byte[MaximumNameBytes];
        ref int slot = ref slots[Slot(Bytes(name, scratch))];
        if (slot != 0)
        {
            return false;
        }

        names[Count++] = name;
        slot = Count;
        return true;
    }

    /// <summary>The index of a name in the order they were added, or -1.</summary>
    public int IndexOf(string name)
    {
        Span<byte> bytes = stackalloc byte[MaximumNameBytes];
        return Encoding.UTF8.TryGetBytes(name, bytes, out int length) ? slots[Slot(bytes[..length])] - 1 : -1;
    }

    /// <summary>Whether the escapes of a JSON string (already known to be well-formed) all name characters: no half of a surrogate pair alone.</summary>
    public static bool EscapesAreCharacters(ReadOnlySpan<byte> text)
    {
        bool afterHighHalf = false;
        for (int i = 0; i < text.Length; i++)
        {
            bool isHighHalf = false, isLowHalf = false;
            if (text[i] == (byte)'\\' && text[++i] == (byte)'u')
            {
                int digit = text[i + 2] | 0x20;
                bool isSurrogate = (text[i + 1] | 0x20) == 'd' && (digit is '8' or '9' || digit is >= 'a' and <= 'f');
                isLowHalf = isSurrogate && digit >= 'c';
                isHighHalf = isSurrogate && !isLowHalf;
                i += 4;
            }

            if (afterHighHalf != isLowHalf)
            {
                return false;
            }

            afterHighHalf = isHighHalf;
        }

        return !afterHighHalf;
    }

    /// <summary>Seeded per process, so that nobody can prepare names that all collide.</summary>
    private static int Hash(ReadOnlySpan<byte> name)
        => string.GetHashCode(MemoryMarshal.Cast<byte, char>(name), StringComparison.Ordinal) + (name.Length % 2 == 0 ? 0 : 0x3D4D51CB * (name[^1] + 1));

    /// <summary>The slot of a name, or the free one where it would go (linear probing).</summary>
    private int Slot(ReadOnlySpan<byte> name)
    {
        Span<byte> scratch = stackalloc byte[MaximumNameBytes];
        int mask = slots.Length - 1;
        int slot = Hash(name) & mask;
        while (slots[slot] != 0 && !name.SequenceEqual(Bytes(names[slots[slot] - 1], scratch)))
        {
            slot = (slot + 1) & mask;
        }

        return slot;
    }

    private ReadOnlySpan<byte> Bytes(NamePosition name, Span<byte> scratch)
    {
        if (!name.IsEscaped)
        {
            return json.AsSpan(name.Start, name.Length);
        }

        Utf8JsonReader reader = new(json.AsSpan(name.Start - 1, name.Length + 2));
        reader.Read();
        return scratch[..reader.CopyString(scratch)];
    }

    /// <summary>Where a name stands, without its quotes; the sign of the length tells whether it is escaped (-1 - length if so).</summary>
    private readonly struct NamePosition(int start, int length, bool isEscaped)
    {
        private readonly int signedLength = isEscaped ? ~length : length;

        public int Start { get; } = start;

        public int Length => IsEscaped ? ~signedLength : signedLength;

        public bool IsEscaped => signedLength < 0;
    }
}
