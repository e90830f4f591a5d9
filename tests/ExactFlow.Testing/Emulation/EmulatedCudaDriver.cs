using System.Collections.Concurrent;
using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text;
using ExactFlow.Cuda;

namespace ExactFlow.Testing.Emulation;

/// <summary>
/// A GPU played on the CPU behind the driver seam: kernels of <see cref="EmulatedKernelCompiler"/> really run, queued work at once, captured work at each
/// replay. It refuses what a driver would refuse, and reports what a GPU would only hint at: threads that wait forever, accesses beside a block of memory
/// or off their alignment. The n-th call fails on request.
/// </summary>
public sealed unsafe partial class EmulatedCudaDriver : ICudaDriver
{
    /// <summary>The product's name that it reports.</summary>
    public const string ModelName = "Emulated GPU";

    private static long nextContext = 0x4000_0000;

    [ThreadStatic]
    private static nint currentContext;

    /// <summary>The stream that this thread captures: what a capture forbids is forbidden to its thread alone.</summary>
    [ThreadStatic]
    private static nint capturing;

    /// <summary>What went wrong in this thread's last call.</summary>
    [ThreadStatic]
    private static string? problem;

    private static long nextHandle;

    /// <summary>Held while memory or kernels are at work: devices on several threads may share the driver, and their work then takes turns.</summary>
    private readonly Lock working = new();
    private readonly EmulatedMemory memory = new();
    private readonly ConcurrentDictionary<nint, object> handles = new();
    private readonly List<string> calls = [];
    private EmulatedProcessor? processor;
    private nint context;
    private int contextUsers;
    private int failingCall = -1;
    private CudaResult failure;

    /// <summary>Every call so far, by its name and what it was about.</summary>
    public IReadOnlyList<string> Calls => calls;

    /// <summary>What was taken and not given back: memory, streams, events, modules, graphs.</summary>
    public IReadOnlyList<string> Outstanding
        => [.. memory.Sizes.Select(bytes => $"{bytes} bytes"), .. handles.Values.Where(value => value is not EmulatedKernel).Select(Kind), .. context == 0 ? Array.Empty<string>() : ["context"]];

    /// <summary>Memory of the GPU; allocations beyond it fail as a driver's do.</summary>
    public nuint TotalBytes { get; init; } = (nuint)1 << 31;

    /// <summary>Makes the call with this index (from 0, counted from the driver's birth) fail once, without effect.</summary>
    public void FailCall(int index, CudaResult result)
    {
        failingCall = index;
        failure = result;
    }

    /// <inheritdoc/>
    public string Describe(CudaResult result) => problem is null ? $"{result} ({(int)result})" : $"{result} ({(int)result}: {problem})";

    /// <inheritdoc/>
    public CudaResult Init() => Call("cuInit") ?? CudaResult.Success;

    /// <inheritdoc/>
    public CudaResult DriverGetVersion(out int version)
    {
        version = 12_080;
        return Call("cuDriverGetVersion") ?? CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult DeviceGetCount(out int count)
    {
        count = 1;
        return Call("cuDeviceGetCount") ?? CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult DeviceGet(out int device, int ordinal)
    {
        device = 0;
        return Call("cuDeviceGet") ?? (ordinal == 0 ? CudaResult.Success : CudaResult.InvalidDevice);
    }

    /// <inheritdoc/>
    public CudaResult DeviceGetName(Span<byte> name, int device)
    {
        Encoding.UTF8.GetBytes(ModelName + "\0", name);
        return Call("cuDeviceGetName") ?? CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult DeviceGetAttribute(out int value, CudaDeviceAttribute attribute, int device)
    {
        value = attribute switch
        {
            CudaDeviceAttribute.MaxThreadsPerBlock => LaunchGeometry.MaxThreads,
            CudaDeviceAttribute.MaxGridX => int.MaxValue,
            CudaDeviceAttribute.MaxGridY or CudaDeviceAttribute.MaxGridZ => LaunchGeometry.MaxGridYZ,
            CudaDeviceAttribute.MultiprocessorCount => 4,
            CudaDeviceAttribute.ComputeCapabilityMajor => 9,
            CudaDeviceAttribute.MaxSharedMemoryPerBlockOptIn => EmulatedProcessor.MaxSharedBytes,
            CudaDeviceAttribute.MemoryPoolsSupported => 1,
            _ => 0,
        };
        return Call("cuDeviceGetAttribute") ?? CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult DeviceTotalMem(out nuint bytes, int device)
    {
        bytes = TotalBytes;
        return Call("cuDeviceTotalMem") ?? CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult MemGetInfo(out nuint free, out nuint total)
    {
        (free, total) = (TotalBytes - memory.UsedBytes, TotalBytes);
        return Call("cuMemGetInfo") ?? (currentContext == context ? CudaResult.Success : CudaResult.InvalidContext);
    }

    /// <inheritdoc/>
    public CudaResult PrimaryContextRetain(out nint context, int device)
    {
        context = 0;
        if (Call("cuDevicePrimaryCtxRetain") is { } failed)
        {
            return failed;
        }

        // A GPU has one primary context, which all its devices share.
        using Lock.Scope scope = working.EnterScope();
        this.context = context = contextUsers++ > 0 ? this.context : (nint)Interlocked.Increment(ref nextContext);
        return CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult PrimaryContextRelease(int device)
    {
        if (Call("cuDevicePrimaryCtxRelease") is { } failed)
        {
            return failed;
        }

        using Lock.Scope scope = working.EnterScope();
        if (--contextUsers == 0)
        {
            context = 0;
            processor?.Return();
            processor = null;
        }

        return CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult ContextSetCurrent(nint context)
    {
        if (Call("cuCtxSetCurrent") is { } failed)
        {
            return failed;
        }

        currentContext = context;
        return CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult StreamCreate(out nint stream, uint flags) => Create("cuStreamCreate", new EmulatedStream(), out stream);

    /// <inheritdoc/>
    public CudaResult StreamDestroy(nint stream) => Destroy<EmulatedStream>("cuStreamDestroy", stream);

    /// <inheritdoc/>
    public CudaResult StreamSynchronize(nint stream) => CallWith<EmulatedStream>("cuStreamSynchronize", stream, out _) ?? NotWhileCapturing("waiting for the stream");

    /// <inheritdoc/>
    public CudaResult EventCreate(out nint handle, uint flags) => Create("cuEventCreate", new EmulatedEvent(), out handle);

    /// <inheritdoc/>
    public CudaResult EventDestroy(nint handle) => Destroy<EmulatedEvent>("cuEventDestroy", handle);

    /// <inheritdoc/>
    public CudaResult EventRecord(nint handle, nint stream)
        => !TryGet(handle, out EmulatedEvent? mark)
            ? Call("cuEventRecord") ?? CudaResult.InvalidHandle
            : Queue("cuEventRecord", stream, () =>
            {
                mark.Timestamp = Stopwatch.GetTimestamp();
                return CudaResult.Success;
            });

    /// <inheritdoc/>
    public CudaResult EventSynchronize(nint handle) => CallWith<EmulatedEvent>("cuEventSynchronize", handle, out _) ?? NotWhileCapturing("waiting for an event");

    /// <inheritdoc/>
    public CudaResult EventElapsedTime(out float milliseconds, nint start, nint end)
    {
        milliseconds = 0;
        if (CallWith("cuEventElapsedTime", start, out EmulatedEvent? first) is { } failed)
        {
            return failed;
        }

        if (!TryGet(end, out EmulatedEvent? second))
        {
            return CudaResult.InvalidHandle;
        }

        milliseconds = (float)Stopwatch.GetElapsedTime(first!.Timestamp, second.Timestamp).TotalMilliseconds;
        return CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult MemAllocAsync(out nint address, nuint bytes, nint stream)
    {
        address = 0;
        if ((CallWith<EmulatedStream>($"cuMemAllocAsync {bytes}", stream, out _) ?? NotWhileCapturing($"allocating {bytes} bytes")) is var failed and not CudaResult.Success)
        {
            return failed;
        }

        using Lock.Scope scope = working.EnterScope();
        if (bytes == 0 || memory.UsedBytes + bytes > TotalBytes)
        {
            return bytes == 0 ? CudaResult.InvalidValue : CudaResult.OutOfMemory;
        }

        address = memory.Allocate(bytes);
        return CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult MemFreeAsync(nint address, nint stream)
    {
        if ((CallWith<EmulatedStream>("cuMemFreeAsync", stream, out _) ?? NotWhileCapturing("freeing memory")) is var failed and not CudaResult.Success)
        {
            return failed;
        }

        using Lock.Scope scope = working.EnterScope();
        return memory.Free(address) ? CudaResult.Success : Fail(CudaResult.InvalidValue, "memory was freed that had not been allocated, or twice");
    }

    /// <inheritdoc/>
    public CudaResult MemHostAlloc(out nint address, nuint bytes)
    {
        address = 0;
        if (Call($"cuMemHostAlloc {bytes}") is { } failed)
        {
            return failed;
        }

        address = (nint)NativeMemory.AllocZeroed(bytes);
        handles[address] = new EmulatedHostMemory();
        return CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult MemFreeHost(nint address)
    {
        CudaResult result = Destroy<EmulatedHostMemory>("cuMemFreeHost", address);
        if (result == CudaResult.Success)
        {
            NativeMemory.Free((void*)address);
        }

        return result;
    }

    /// <inheritdoc/>
    public CudaResult MemsetD8Async(nint address, byte value, nuint bytes, nint stream)
        => Access($"cuMemsetD8Async {bytes}", stream, address, bytes, () => NativeMemory.Fill((void*)address, bytes, value));

    /// <inheritdoc/>
    public CudaResult MemcpyHtoDAsync(nint destination, void* source, nuint bytes, nint stream)
        => capturing != 0
            ? Call("cuMemcpyHtoDAsync") ?? NotWhileCapturing($"copying {bytes} bytes from host memory, which may be gone at a replay,")
            : Access($"cuMemcpyHtoDAsync {bytes}", stream, destination, bytes, () => NativeMemory.Copy(source, (void*)destination, bytes));

    /// <inheritdoc/>
    public CudaResult MemcpyDtoHAsync(void* destination, nint source, nuint bytes, nint stream)
        => capturing != 0
            ? Call("cuMemcpyDtoHAsync") ?? NotWhileCapturing($"copying {bytes} bytes to host memory, which may be gone at a replay,")
            : Access($"cuMemcpyDtoHAsync {bytes}", stream, source, bytes, () => NativeMemory.Copy((void*)source, destination, bytes));

    /// <inheritdoc/>
    public CudaResult MemcpyDtoDAsync(nint destination, nint source, nuint bytes, nint stream)
        => Access($"cuMemcpyDtoDAsync {bytes}", stream, source, bytes, () =>
        {
            if (memory.Owns(destination, bytes))
            {
                NativeMemory.Copy((void*)source, (void*)destination, bytes);
            }
            else
            {
                Fail(CudaResult.IllegalAddress, $"{bytes} bytes were copied to a place outside of device memory");
            }
        });

    /// <inheritdoc/>
    public CudaResult ModuleLoadData(out nint module, ReadOnlySpan<byte> image)
    {
        module = 0;
        if (Call($"cuModuleLoadData {image.Length}") is { } failed)
        {
            return failed;
        }

        return EmulatedModule.Load(image) is { } loaded ? Add(loaded, out module) : CudaResult.InvalidSource;
    }

    /// <inheritdoc/>
    public CudaResult ModuleUnload(nint module)
    {
        TryGet(module, out EmulatedModule? loaded);
        CudaResult result = Destroy<EmulatedModule>("cuModuleUnload", module);
        if (result == CudaResult.Success)
        {
            loaded!.Unload();
        }

        return result;
    }

    /// <inheritdoc/>
    public CudaResult ModuleGetFunction(out nint function, nint module, string name)
    {
        function = 0;
        if (CallWith($"cuModuleGetFunction {name}", module, out EmulatedModule? loaded) is { } failed)
        {
            return failed;
        }

        return loaded!.Find(name) is { } kernel ? Add(kernel, out function) : CudaResult.NotFound;
    }

    /// <inheritdoc/>
    public CudaResult FunctionSetAttribute(nint function, CudaFunctionAttribute attribute, int value)
    {
        if (CallWith("cuFuncSetAttribute", function, out EmulatedKernel? kernel) is { } failed)
        {
            return failed;
        }

        if (attribute == CudaFunctionAttribute.PreferredSharedCarveout)
        {
            return value is >= -1 and <= 100 ? CudaResult.Success : CudaResult.InvalidValue;
        }

        if (value > EmulatedProcessor.MaxSharedBytes)
        {
            return CudaResult.InvalidValue;
        }

        kernel!.MaxSharedBytes = value;
        return CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult LaunchKernel(nint function, LaunchGeometry geometry, nint stream, void** arguments)
    {
        if (!TryGet(function, out EmulatedKernel? kernel))
        {
            return Call("cuLaunchKernel") ?? CudaResult.InvalidHandle;
        }

        if (LaunchProblem(kernel, geometry) is { } refused)
        {
            return Call($"cuLaunchKernel {kernel.Name}") ?? Fail(CudaResult.InvalidValue, $"{kernel.Name}, {geometry}: {refused}");
        }

        byte[][] copies = kernel.CopyArguments(arguments);
        return Queue($"cuLaunchKernel {kernel.Name} {geometry}", stream, () => Run(kernel, geometry, copies));
    }

    /// <inheritdoc/>
    public CudaResult StreamBeginCapture(nint stream)
    {
        if (CallWith("cuStreamBeginCapture", stream, out EmulatedStream? captured) is { } failed)
        {
            return failed;
        }

        capturing = stream;
        captured!.Work.Clear();
        return CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult StreamEndCapture(nint stream, out nint graph)
    {
        graph = 0;
        if (capturing != stream)
        {
            return Call("cuStreamEndCapture") ?? CudaResult.StreamCaptureUnmatched;
        }

        // A failed end ends the capture too, as with the real driver.
        capturing = 0;
        Func<CudaResult>[] captured = TryGet(stream, out EmulatedStream? ended) ? [.. ended.Work] : [];
        return Create("cuStreamEndCapture", new EmulatedGraph(captured), out graph);
    }

    /// <inheritdoc/>
    public CudaResult GraphInstantiate(out nint executable, nint graph)
    {
        executable = 0;
        return TryGet(graph, out EmulatedGraph? recorded)
            ? Create("cuGraphInstantiateWithFlags", new EmulatedExecutable(recorded.Work), out executable)
            : Call("cuGraphInstantiateWithFlags") ?? CudaResult.InvalidHandle;
    }

    /// <inheritdoc/>
    public CudaResult GraphLaunch(nint executable, nint stream)
    {
        if (CallWith("cuGraphLaunch", executable, out EmulatedExecutable? graph) is { } failed)
        {
            return failed;
        }

        using Lock.Scope scope = working.EnterScope();
        foreach (Func<CudaResult> work in graph!.Work)
        {
            if (work() is var result and not CudaResult.Success)
            {
                return result;
            }
        }

        return CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult GraphExecutableDestroy(nint executable) => Destroy<EmulatedExecutable>("cuGraphExecDestroy", executable);

    /// <inheritdoc/>
    public CudaResult GraphDestroy(nint graph) => Destroy<EmulatedGraph>("cuGraphDestroy", graph);
}
