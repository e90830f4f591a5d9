using System.Runtime.InteropServices;
using ExactFlow.Cuda;

namespace ExactFlow.Testing.Emulation;

/// <summary>
/// Memory that a block uses while it runs: its shared memory, the stacks of its threads, and what the checks note. Untouched pages cost nothing.
/// </summary>
internal sealed unsafe class EmulatedProcessor : IDisposable
{
    /// <summary>Shared memory that a block may use, as on an H100.</summary>
    public const int MaxSharedBytes = 232_448;

    /// <summary>Bytes behind the dynamic shared memory that must stay as they are.</summary>
    public const int SharedGuardBytes = 1024;

    /// <summary>Stack of a thread.</summary>
    public const long StackBytes = 128 * 1024;

    /// <summary>Static shared memory of all kernels of a module, at most.</summary>
    private const int MaxStaticSharedBytes = 1 << 20;

    /// <summary>sizeof(emulation::Copy) times emulation::MAX_COPIES.</summary>
    private const int CopyBytes = 24 * 256;

    private const nuint ShadowEntries = (MaxSharedBytes + SharedGuardBytes + MaxStaticSharedBytes) / 2;

    /// <summary>Takes the memory.</summary>
    public EmulatedProcessor()
    {
        Shared = (byte*)NativeMemory.AlignedAlloc(MaxSharedBytes + SharedGuardBytes, 1024);
        Stacks = (byte*)NativeMemory.AlignedAlloc((nuint)(StackBytes * LaunchGeometry.MaxThreads), 4096);
        Copies = (nint)NativeMemory.Alloc(LaunchGeometry.MaxThreads, CopyBytes);
        SharedShadow = (nint)NativeMemory.AllocZeroed(ShadowEntries, EmulatedMemory.ShadowBytes);
        Epoch = (uint*)NativeMemory.AllocZeroed(sizeof(uint));
    }

    /// <summary>Shared memory.</summary>
    public byte* Shared { get; private set; }

    /// <summary>Stacks, one after another.</summary>
    public byte* Stacks { get; private set; }

    /// <summary>Copies of <c>cp.async</c> under way.</summary>
    public nint Copies { get; private set; }

    /// <summary>What the checks know about shared memory.</summary>
    public nint SharedShadow { get; private set; }

    /// <summary>Counts the intervals between barriers, from launch to launch.</summary>
    public uint* Epoch { get; private set; }

    /// <summary>Forgets what a launch that was cut short left under way.</summary>
    public void Forget() => NativeMemory.Clear((void*)SharedShadow, ShadowEntries * EmulatedMemory.ShadowBytes);

    /// <inheritdoc/>
    public void Dispose()
    {
        NativeMemory.Free((void*)Copies);
        NativeMemory.Free((void*)SharedShadow);
        NativeMemory.Free(Epoch);
        Copies = SharedShadow = 0;
        Epoch = null;
        NativeMemory.AlignedFree(Shared);
        NativeMemory.AlignedFree(Stacks);
        Shared = Stacks = null;
    }
}
