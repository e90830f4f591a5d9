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
        var places = new CodePlaces(image.ToArray());
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
            kernels.Add(name, new EmulatedKernel(name, table[i], run, places));
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
    private readonly CodePlaces places;

    public EmulatedKernel(string name, NativeKernel native, delegate* unmanaged<NativeLaunch*, int> run, CodePlaces places)
    {
        Name = name;
        this.native = native;
        this.run = run;
        this.places = places;
    }

    /// <summary>Its exported name.</summary>
    public string Name { get; }

    /// <summary>Threads of a block at most, from its launch bounds.</summary>
    public int MaxThreads => native.MaxThreads;

    /// <summary>Dynamic shared memory that launches may ask for: 48 KB less 8 that the kernel may declare itself, which is not seen here.</summary>
    public int MaxSharedBytes { get; set; } = 40 * 1024;

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
    public string? Run(LaunchGeometry geometry, byte[][] arguments, EmulatedProcessor processor, EmulatedMemory memory)
    {
        const int ProblemBytes = 1024;
        byte* problem = stackalloc byte[ProblemBytes];
        nint* pointers = stackalloc nint[arguments.Length + 1];
        using var block = new AlignedCopies(arguments, pointers);
        fixed (NativeBlock* blocks = memory.Blocks)
        {
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
                SharedCapacity = EmulatedProcessor.MaxSharedBytes + EmulatedProcessor.SharedGuardBytes,
                Stacks = processor.Stacks,
                StackBytes = EmulatedProcessor.StackBytes,
                Problem = problem,
                ProblemBytes = ProblemBytes,
                Copies = processor.Copies,
                Blocks = blocks,
                BlockCount = memory.Blocks.Length,
                SharedShadow = processor.SharedShadow,
                Epoch = processor.Epoch,
            };
            if (run(&launch) == 0)
            {
                return null;
            }
        }

        processor.Forget();
        return places.Name(Marshal.PtrToStringUTF8((nint)problem)!);
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

/// <summary>emulation::Launch.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct NativeLaunch
{
    public nint Kernel;
    public nint* Arguments;
    public int GridX, GridY, GridZ, BlockX, BlockY, BlockZ, SharedBytes, SharedGuard;
    public long FirstBlock, LastBlock;
    public byte* Shared;
    public long SharedCapacity;
    public byte* Stacks;
    public long StackBytes;
    public nint Copies;
    public byte* Problem;
    public long ProblemBytes;
    public NativeBlock* Blocks;
    public long BlockCount;
    public nint SharedShadow;
    public uint* Epoch;
}

/// <summary>emulation::Kernel.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct NativeKernel
{
    public nint Name, Run;
    public int Parameters, MaxThreads;
    public int* Sizes;
}

/// <summary>emulation::Block.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NativeBlock
{
    public nint Start, End, Shadow;
}
