using System.Collections.Concurrent;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using ExactFlow.Cuda;

namespace ExactFlow.Testing.Emulation;

/// <summary>A loaded library of kernels. Its variables serve one launch at a time, so every module has a copy of its own; copies are reused, not unloaded.</summary>
internal sealed unsafe class EmulatedModule
{
    private static readonly ConcurrentDictionary<string, ConcurrentBag<EmulatedModule>> Idle = new(StringComparer.Ordinal);

    private readonly string key;
    private readonly Dictionary<string, EmulatedKernel> kernels = new(StringComparer.Ordinal);

    private EmulatedModule(string key, ReadOnlySpan<byte> image)
    {
        this.key = key;
        using var folder = new TemporaryFolder();
        string path = folder["kernels.so"];
        File.WriteAllBytes(path, image);
        nint library = NativeLibrary.Load(path);
        var list = (delegate* unmanaged<int*, NativeKernel*>)NativeLibrary.GetExport(library, "emulation_kernels");
        var run = (delegate* unmanaged<NativeLaunch*, int>)NativeLibrary.GetExport(library, "emulation_run");
        int count;
        NativeKernel* table = list(&count);
        for (int i = 0; i < count; i++)
        {
            string name = Marshal.PtrToStringUTF8(table[i].Name)!;
            kernels.Add(name, new EmulatedKernel(name, table[i], run));
        }
    }

    /// <summary>A module of an image; null when the image is no library of kernels.</summary>
    public static EmulatedModule? Load(ReadOnlySpan<byte> image)
    {
        string key = Convert.ToHexStringLower(SHA256.HashData(image));
        if (Idle.TryGetValue(key, out ConcurrentBag<EmulatedModule>? copies) && copies.TryTake(out EmulatedModule? idle))
        {
            return idle;
        }

        try
        {
            return new EmulatedModule(key, image);
        }
        catch (Exception exception) when (exception is BadImageFormatException or DllNotFoundException or EntryPointNotFoundException)
        {
            return null;
        }
    }

    /// <summary>Leaves the copy to the next module of the same image.</summary>
    public void Unload() => Idle.GetOrAdd(key, _ => []).Add(this);

    /// <summary>A kernel, or null.</summary>
    public EmulatedKernel? Find(string name) => kernels.GetValueOrDefault(name);
}

/// <summary>A kernel of the emulated GPU.</summary>
internal sealed unsafe class EmulatedKernel
{
    private readonly NativeKernel native;
    private readonly delegate* unmanaged<NativeLaunch*, int> run;

    public EmulatedKernel(string name, NativeKernel native, delegate* unmanaged<NativeLaunch*, int> run)
    {
        Name = name;
        this.native = native;
        this.run = run;
    }

    /// <summary>Its exported name.</summary>
    public string Name { get; }

    /// <summary>Threads of a block at most, from its launch bounds.</summary>
    public int MaxThreads => native.MaxThreads;

    /// <summary>Dynamic shared memory that launches may ask for.</summary>
    public int MaxSharedBytes { get; set; } = 48 * 1024;

    /// <summary>The values of the arguments, copied as a launch copies them.</summary>
    public byte[][] CopyArguments(void** arguments)
    {
        var copies = new byte[native.Parameters][];
        for (int i = 0; i < copies.Length; i++)
        {
            copies[i] = new ReadOnlySpan<byte>(arguments[i], native.Sizes[i]).ToArray();
        }

        return copies;
    }

    /// <summary>Runs all blocks; null, or what went wrong.</summary>
    public string? Run(LaunchGeometry geometry, byte[][] arguments, EmulatedProcessor processor)
    {
        const int ProblemBytes = 1024;
        byte* problem = stackalloc byte[ProblemBytes];
        nint* pointers = stackalloc nint[arguments.Length + 1];
        using var block = new AlignedCopies(arguments, pointers);
        var launch = new NativeLaunch
        {
            Kernel = native.Run,
            Arguments = pointers,
            GridX = geometry.GridX,
            GridY = geometry.GridY,
            GridZ = geometry.GridZ,
            BlockX = geometry.BlockX,
            BlockY = geometry.BlockY,
            BlockZ = geometry.BlockZ,
            SharedBytes = geometry.SharedBytes,
            SharedGuard = EmulatedProcessor.SharedGuardBytes,
            LastBlock = (long)geometry.GridX * geometry.GridY * geometry.GridZ,
            Shared = processor.Shared,
            Stacks = processor.Stacks,
            StackBytes = EmulatedProcessor.StackBytes,
            Problem = problem,
            ProblemBytes = ProblemBytes,
        };
        return run(&launch) == 0 ? null : Marshal.PtrToStringUTF8((nint)problem);
    }

    /// <summary>Arguments at addresses that suit any type.</summary>
    private readonly ref struct AlignedCopies
    {
        private readonly byte* memory;

        public AlignedCopies(byte[][] arguments, nint* pointers)
        {
            const int Alignment = 64;
            int total = arguments.Sum(argument => (argument.Length + Alignment - 1) / Alignment * Alignment);
            memory = (byte*)NativeMemory.AlignedAlloc((nuint)Math.Max(total, Alignment), Alignment);
            byte* next = memory;
            for (int i = 0; i < arguments.Length; i++)
            {
                pointers[i] = (nint)next;
                arguments[i].CopyTo(new Span<byte>(next, arguments[i].Length));
                next += (arguments[i].Length + Alignment - 1) / Alignment * Alignment;
            }
        }

        public void Dispose() => NativeMemory.AlignedFree(memory);
    }
}

/// <summary>Memory that a block uses while it runs: its shared memory and the stacks of its threads. Untouched pages cost nothing.</summary>
internal sealed unsafe class EmulatedProcessor : IDisposable
{
    /// <summary>Shared memory that a block may use, as on an H100.</summary>
    public const int MaxSharedBytes = 232_448;

    /// <summary>Bytes behind the dynamic shared memory that must stay as they are.</summary>
    public const int SharedGuardBytes = 1024;

    /// <summary>Stack of a thread.</summary>
    public const long StackBytes = 128 * 1024;

    /// <summary>Takes the memory.</summary>
    public EmulatedProcessor()
    {
        Shared = (byte*)NativeMemory.AlignedAlloc(MaxSharedBytes + SharedGuardBytes, 1024);
        Stacks = (byte*)NativeMemory.AlignedAlloc((nuint)(StackBytes * LaunchGeometry.MaxThreads), 4096);
    }

    /// <summary>Shared memory.</summary>
    public byte* Shared { get; private set; }

    /// <summary>Stacks, one after another.</summary>
    public byte* Stacks { get; private set; }

    /// <inheritdoc/>
    public void Dispose()
    {
        NativeMemory.AlignedFree(Shared);
        NativeMemory.AlignedFree(Stacks);
        Shared = Stacks = null;
    }
}

/// <summary>emulation::Launch.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct NativeLaunch
{
    public nint Kernel;
    public nint* Arguments;
    public int GridX, GridY, GridZ, BlockX, BlockY, BlockZ, SharedBytes, SharedGuard;
    public long FirstBlock, LastBlock;
    public byte* Shared, Stacks;
    public long StackBytes;
    public byte* Problem;
    public long ProblemBytes;
}

/// <summary>emulation::Kernel.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct NativeKernel
{
    public nint Name, Run;
    public int Parameters, MaxThreads;
    public int* Sizes;
}
