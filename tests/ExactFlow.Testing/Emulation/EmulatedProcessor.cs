using System.Collections.Concurrent;
using System.Runtime.InteropServices;
using ExactFlow.Cuda;

namespace ExactFlow.Testing.Emulation;

/// <summary>
/// Memory that a block uses while it runs: its shared memory, the stacks of its threads, and what the checks note. Untouched pages cost nothing; those
/// that were touched serve the next device.
/// </summary>
internal sealed unsafe class EmulatedProcessor
{
    private static readonly ConcurrentBag<EmulatedProcessor> Idle = [];

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

    private EmulatedProcessor()
    {
        Shared = (byte*)NativeMemory.AlignedAlloc(MaxSharedBytes + SharedGuardBytes, 1024);
        Stacks = (byte*)NativeMemory.AlignedAlloc((nuint)(StackBytes * LaunchGeometry.MaxThreads), 4096);
        Copies = (nint)NativeMemory.Alloc(LaunchGeometry.MaxThreads, CopyBytes);
        SharedShadow = (nint)NativeMemory.AllocZeroed(ShadowEntries, EmulatedMemory.ShadowBytes);
        Epoch = (uint*)NativeMemory.AllocZeroed(sizeof(uint));
    }

    /// <summary>Shared memory.</summary>
    public byte* Shared { get; }

    /// <summary>Stacks, one after another.</summary>
    public byte* Stacks { get; }

    /// <summary>Copies of <c>cp.async</c> under way.</summary>
    public nint Copies { get; }

    /// <summary>What the checks know about shared memory.</summary>
    public nint SharedShadow { get; }

    /// <summary>Counts the intervals between barriers, from launch to launch.</summary>
    public uint* Epoch { get; }

    /// <summary>Forgets what a launch that was cut short left under way.</summary>
    public void Forget() => NativeMemory.Clear((void*)SharedShadow, ShadowEntries * EmulatedMemory.ShadowBytes);

    /// <summary>One that nobody uses.</summary>
    public static EmulatedProcessor Take() => Idle.TryTake(out EmulatedProcessor? idle) ? idle : new EmulatedProcessor();

    /// <summary>Leaves it to the next device.</summary>
    public void Return() => Idle.Add(this);
}
