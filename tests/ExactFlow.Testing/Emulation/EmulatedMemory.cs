using System.Runtime.InteropServices;

namespace ExactFlow.Testing.Emulation;

/// <summary>Memory of the emulated GPU: host memory, each block between two guard zones that nothing may write to. Fresh and freed memory is NaN.</summary>
internal sealed unsafe class EmulatedMemory
{
    private const int GuardBytes = 1024;
    private const byte GuardByte = 0xA5;
    private const int Alignment = 256;
    private static readonly byte[] IntactGuard = [.. Enumerable.Repeat(GuardByte, GuardBytes)];

    /// <summary>Bytes that the kernels' checks keep for two bytes of memory: sizeof(emulation::Shadow).</summary>
    public const int ShadowBytes = 20;

    private readonly SortedList<nint, nuint> blocks = [];
    private NativeBlock[] described = [];

    /// <summary>Bytes taken.</summary>
    public nuint UsedBytes { get; private set; }

    /// <summary>Sizes of the blocks that were not freed.</summary>
    public IEnumerable<nuint> Sizes => blocks.Values;

    /// <summary>All blocks, by address, for the checks that kernels make.</summary>
    public ReadOnlySpan<NativeBlock> Blocks => described;

    /// <summary>Takes a block.</summary>
    public nint Allocate(nuint bytes)
    {
        byte* start = (byte*)NativeMemory.AlignedAlloc(bytes + (2 * GuardBytes), Alignment);
        IntactGuard.CopyTo(new Span<byte>(start, GuardBytes));
        IntactGuard.CopyTo(new Span<byte>(start + GuardBytes + bytes, GuardBytes));
        NativeMemory.Fill(start + GuardBytes, bytes, 0xFF);
        nint address = (nint)(start + GuardBytes);
        blocks.Add(address, bytes);
        var block = new NativeBlock { Start = address, End = address + (nint)bytes, Shadow = (nint)NativeMemory.AllocZeroed((bytes + 1) / 2, ShadowBytes) };
        described = [.. described.Append(block).OrderBy(other => other.Start)];
        UsedBytes += bytes;
        return address;
    }

    /// <summary>Gives a block back; false when there is none at the address.</summary>
    public bool Free(nint address)
    {
        if (!blocks.Remove(address, out nuint bytes))
        {
            return false;
        }

        NativeMemory.Free((void*)described.Single(block => block.Start == address).Shadow);
        described = [.. described.Where(block => block.Start != address)];
        UsedBytes -= bytes;
        NativeMemory.Fill((void*)address, bytes, 0xFF);
        NativeMemory.AlignedFree((byte*)address - GuardBytes);
        return true;
    }

    /// <summary>Gives everything back.</summary>
    public void FreeAll()
    {
        foreach (nint address in blocks.Keys.ToArray())
        {
            Free(address);
        }
    }

    /// <summary>Whether a range lies inside one block.</summary>
    public bool Owns(nint address, nuint bytes)
    {
        int low = 0;
        int high = blocks.Count;
        while (low < high)
        {
            int middle = (low + high) / 2;
            (low, high) = blocks.GetKeyAtIndex(middle) <= address ? (middle + 1, high) : (low, middle);
        }

        return low > 0 && (nuint)(address - blocks.GetKeyAtIndex(low - 1)) + bytes <= blocks.GetValueAtIndex(low - 1);
    }

    /// <summary>Null, or which block was written beside, and where. The guard is mended, so that the next culprit is found too.</summary>
    public string? FindOverrun()
    {
        foreach ((nint address, nuint bytes) in blocks)
        {
            var before = new Span<byte>((byte*)address - GuardBytes, GuardBytes);
            var behind = new Span<byte>((byte*)address + bytes, GuardBytes);
            int first = before.IndexOfAnyExcept(GuardByte);
            int last = behind.IndexOfAnyExcept(GuardByte);
            if (first >= 0 || last >= 0)
            {
                IntactGuard.CopyTo(before);
                IntactGuard.CopyTo(behind);
                return first >= 0 ? $"wrote {GuardBytes - first} bytes before a block of {bytes} bytes" : $"wrote at byte {last} past the end of a block of {bytes} bytes";
            }
        }

        return null;
    }
}
