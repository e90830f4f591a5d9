using System.Runtime.InteropServices;
using System.Text;
using ExactFlow.Cuda;

namespace ExactFlow.Testing;

/// <summary>
/// A GPU made of host memory behind the driver seam. It writes every call down in order, does copies and fills for real, refuses what a driver would refuse
/// (memory it did not give out, handles that are gone, calls without the context, launches beyond the limits, waiting while capturing),
/// and fails the n-th call on request. <see cref="Outstanding"/> lists whatever was never given back.
/// </summary>
public sealed unsafe class RecordingCudaDriver : ICudaDriver
{
    private static long nextContext = 0x1000;

    [ThreadStatic]
    private static nint currentContext;

    private readonly List<string> calls = [];
    private readonly SortedDictionary<nint, nuint> memory = [];
    private readonly HashSet<nint> hostMemory = [];
    private readonly Dictionary<nint, string> handles = [];
    private readonly List<string> captured = [];
    private readonly Dictionary<nint, string[]> graphs = [];
    private nint nextHandle = 1;
    private nint context;
    private int contextUsers;
    private nint capturing;
    private int failingCall = -1;
    private CudaResult failure;

    /// <summary>Every call so far, as <c>cuMemAllocAsync 256</c>.</summary>
    public IReadOnlyList<string> Calls => calls;

    /// <summary>The names alone.</summary>
    public IEnumerable<string> CallNames => calls.Select(call => call.Split(' ')[0]);

    /// <summary>The launches and other queued work, graph replays written out.</summary>
    public List<string> Executed { get; } = [];

    /// <summary>What was taken and not given back: memory, streams, events, modules, graphs, the context.</summary>
    public IReadOnlyList<string> Outstanding => [.. memory.Select(block => $"{block.Value} bytes"), .. handles.Values, .. context == 0 ? Array.Empty<string>() : ["context"]];

    /// <summary>GPUs that are reported.</summary>
    public int DeviceCount { get; init; } = 1;

    /// <summary>Version that is reported.</summary>
    public int Version { get; init; } = 12_080;

    /// <summary>Memory of the GPU; allocations beyond it fail as the driver's do.</summary>
    public nuint TotalBytes { get; init; } = 1 << 30;

    /// <summary>Kernel names that modules contain.</summary>
    public IReadOnlySet<string> Kernels { get; init; } = new HashSet<string>(StringComparer.Ordinal) { "kernel" };

    /// <summary>Whether modules contain any kernel that is asked for, whatever <see cref="Kernels"/> says.</summary>
    public bool KnowsEveryKernel { get; init; }

    /// <summary>Makes the call with this index (from 0, counted from the driver's birth) fail once, without effect.</summary>
    public void FailCall(int index, CudaResult result)
    {
        failingCall = index;
        failure = result;
    }

    /// <inheritdoc/>
    public string Describe(CudaResult result) => $"{result} ({(int)result})";

    /// <inheritdoc/>
    public CudaResult Init() => Record("cuInit") ?? (DeviceCount == 0 ? CudaResult.NoDevice : CudaResult.Success);

    /// <inheritdoc/>
    public CudaResult DriverGetVersion(out int version)
    {
        version = Version;
        return Record("cuDriverGetVersion") ?? CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult DeviceGetCount(out int count)
    {
        count = DeviceCount;
        return Record("cuDeviceGetCount") ?? CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult DeviceGet(out int device, int ordinal)
    {
        device = 100 + ordinal;
        return Record($"cuDeviceGet {ordinal}") ?? (ordinal < DeviceCount ? CudaResult.Success : CudaResult.InvalidDevice);
    }

    /// <inheritdoc/>
    public CudaResult DeviceGetName(Span<byte> name, int device)
    {
        Encoding.UTF8.GetBytes("Recording GPU\0", name);
        return Record("cuDeviceGetName") ?? CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult DeviceGetAttribute(out int value, CudaDeviceAttribute attribute, int device)
    {
        value = attribute switch
        {
            CudaDeviceAttribute.MaxThreadsPerBlock => LaunchGeometry.MaxThreads,
            CudaDeviceAttribute.MaxGridX => int.MaxValue,
            CudaDeviceAttribute.MaxGridY or CudaDeviceAttribute.MaxGridZ => LaunchGeometry.MaxGridYZ,
            CudaDeviceAttribute.MultiprocessorCount => 132,
            CudaDeviceAttribute.ComputeCapabilityMajor => 9,
            CudaDeviceAttribute.MaxSharedMemoryPerBlockOptIn => 232_448,
            CudaDeviceAttribute.MemoryPoolsSupported => 1,
            _ => 0,
        };
        return Record($"cuDeviceGetAttribute {attribute}") ?? CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult DeviceTotalMem(out nuint bytes, int device)
    {
        bytes = TotalBytes;
        return Record("cuDeviceTotalMem") ?? CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult MemGetInfo(out nuint free, out nuint total)
    {
        nuint used = 0;
        foreach (nuint size in memory.Values)
        {
            used += size;
        }

        (free, total) = (TotalBytes - used, TotalBytes);
        return Record("cuMemGetInfo") ?? (currentContext == context ? CudaResult.Success : CudaResult.InvalidContext);
    }

    /// <inheritdoc/>
    public CudaResult PrimaryContextRetain(out nint context, int device)
    {
        context = 0;
        if (Record("cuDevicePrimaryCtxRetain") is { } failed)
        {
            return failed;
        }

        // A GPU has one primary context, which all its devices share.
        this.context = context = contextUsers++ > 0 ? this.context : (nint)Interlocked.Increment(ref nextContext);
        return CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult PrimaryContextRelease(int device)
    {
        if (Record("cuDevicePrimaryCtxRelease") is { } failed)
        {
            return failed;
        }

        context = --contextUsers > 0 ? context : 0;
        return CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult ContextSetCurrent(nint context)
    {
        if (Record("cuCtxSetCurrent") is { } failed)
        {
            return failed;
        }

        currentContext = context;
        return CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult StreamCreate(out nint stream, uint flags) => Create("cuStreamCreate", "stream", out stream);

    /// <inheritdoc/>
    public CudaResult StreamDestroy(nint stream) => Destroy("cuStreamDestroy", "stream", stream);

    /// <inheritdoc/>
    public CudaResult StreamSynchronize(nint stream) => RecordWith("cuStreamSynchronize", stream, "stream") ?? (capturing == 0 ? CudaResult.Success : CudaResult.StreamCaptureUnsupported);

    /// <inheritdoc/>
    public CudaResult EventCreate(out nint handle, uint flags) => Create("cuEventCreate", "event", out handle);

    /// <inheritdoc/>
    public CudaResult EventDestroy(nint handle) => Destroy("cuEventDestroy", "event", handle);

    /// <inheritdoc/>
    public CudaResult EventRecord(nint handle, nint stream) => RecordWith("cuEventRecord", handle, "event") ?? CudaResult.Success;

    /// <inheritdoc/>
    public CudaResult EventSynchronize(nint handle) => RecordWith("cuEventSynchronize", handle, "event") ?? CudaResult.Success;

    /// <inheritdoc/>
    public CudaResult EventElapsedTime(out float milliseconds, nint start, nint end)
    {
        milliseconds = 1.5f;
        return RecordWith("cuEventElapsedTime", start, "event") ?? CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult MemAllocAsync(out nint address, nuint bytes, nint stream)
    {
        address = 0;
        if (RecordWith($"cuMemAllocAsync {bytes}", stream, "stream") is { } failed)
        {
            return failed;
        }

        nuint used = 0;
        foreach (nuint size in memory.Values)
        {
            used += size;
        }

        if (bytes == 0)
        {
            return CudaResult.InvalidValue;
        }

        if (used + bytes > TotalBytes)
        {
            return CudaResult.OutOfMemory;
        }

        address = (nint)NativeMemory.AlignedAlloc(bytes, 256);
        memory.Add(address, bytes);
        return CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult MemFreeAsync(nint address, nint stream)
    {
        if (RecordWith($"cuMemFreeAsync {(memory.TryGetValue(address, out nuint bytes) ? bytes : 0)}", stream, "stream") is { } failed)
        {
            return failed;
        }

        if (!memory.Remove(address))
        {
            return CudaResult.InvalidValue;
        }

        NativeMemory.AlignedFree((void*)address);
        return CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult MemHostAlloc(out nint address, nuint bytes)
    {
        address = 0;
        if (Record($"cuMemHostAlloc {bytes}") is { } failed)
        {
            return failed;
        }

        address = (nint)NativeMemory.AllocZeroed(bytes);
        hostMemory.Add(address);
        return CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult MemFreeHost(nint address)
    {
        if (Record("cuMemFreeHost") is { } failed)
        {
            return failed;
        }

        if (!hostMemory.Remove(address))
        {
            return CudaResult.InvalidValue;
        }

        NativeMemory.Free((void*)address);
        return CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult MemsetD8Async(nint address, byte value, nuint bytes, nint stream) =>
        Queue($"cuMemsetD8Async {bytes}", stream, Owns(address, bytes), () => NativeMemory.Fill((void*)address, bytes, value));

    /// <inheritdoc/>
    public CudaResult MemcpyHtoDAsync(nint destination, void* source, nuint bytes, nint stream) =>
        Queue($"cuMemcpyHtoDAsync {bytes}", stream, Owns(destination, bytes), () => NativeMemory.Copy(source, (void*)destination, bytes));

    /// <inheritdoc/>
    public CudaResult MemcpyDtoHAsync(void* destination, nint source, nuint bytes, nint stream) =>
        Queue($"cuMemcpyDtoHAsync {bytes}", stream, Owns(source, bytes), () => NativeMemory.Copy((void*)source, destination, bytes));

    /// <inheritdoc/>
    public CudaResult MemcpyDtoDAsync(nint destination, nint source, nuint bytes, nint stream) =>
        Queue($"cuMemcpyDtoDAsync {bytes}", stream, Owns(source, bytes) && Owns(destination, bytes), () => NativeMemory.Copy((void*)source, (void*)destination, bytes));

    /// <inheritdoc/>
    public CudaResult ModuleLoadData(out nint module, ReadOnlySpan<byte> image) => Create($"cuModuleLoadData {image.Length}", "module", out module);

    /// <inheritdoc/>
    public CudaResult ModuleUnload(nint module) => Destroy("cuModuleUnload", "module", module);

    /// <inheritdoc/>
    public CudaResult ModuleGetFunction(out nint function, nint module, string name)
    {
        function = 0;
        if (RecordWith($"cuModuleGetFunction {name}", module, "module") is { } failed)
        {
            return failed;
        }

        if (!KnowsEveryKernel && !Kernels.Contains(name))
        {
            return CudaResult.NotFound;
        }

        function = module << 16;
        return CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult FunctionSetAttribute(nint function, CudaFunctionAttribute attribute, int value) =>
        Record("cuFuncSetAttribute") ?? (IsHandle(function >> 16, "module") ? CudaResult.Success : CudaResult.InvalidHandle);

    /// <inheritdoc/>
    public CudaResult LaunchKernel(nint function, LaunchGeometry geometry, nint stream, void** arguments) =>
        !IsHandle(function >> 16, "module")
            ? Record("cuLaunchKernel") ?? CudaResult.InvalidHandle
            : Queue($"cuLaunchKernel {geometry}", stream, geometry.Problem() is null, static () => { });

    /// <inheritdoc/>
    public CudaResult StreamBeginCapture(nint stream)
    {
        if (RecordWith("cuStreamBeginCapture", stream, "stream") is { } failed)
        {
            return failed;
        }

        capturing = stream;
        captured.Clear();
        return CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult StreamEndCapture(nint stream, out nint graph)
    {
        graph = 0;
        if (capturing != stream)
        {
            return Record("cuStreamEndCapture") ?? CudaResult.StreamCaptureUnmatched;
        }

        // A failed end ends the capture too, as with the real driver.
        capturing = 0;
        CudaResult result = Create("cuStreamEndCapture", "graph", out graph);
        if (result == CudaResult.Success)
        {
            graphs[graph] = [.. captured];
        }

        return result;
    }

    /// <inheritdoc/>
    public CudaResult GraphInstantiate(out nint executable, nint graph)
    {
        executable = 0;
        if (!IsHandle(graph, "graph"))
        {
            return Record("cuGraphInstantiateWithFlags") ?? CudaResult.InvalidHandle;
        }

        CudaResult result = Create("cuGraphInstantiateWithFlags", "executable graph", out executable);
        if (result == CudaResult.Success)
        {
            graphs[executable] = graphs[graph];
        }

        return result;
    }

    /// <inheritdoc/>
    public CudaResult GraphLaunch(nint executable, nint stream)
    {
        if (RecordWith("cuGraphLaunch", executable, "executable graph") is { } failed)
        {
            return failed;
        }

        Executed.AddRange(graphs[executable]);
        return CudaResult.Success;
    }

    /// <inheritdoc/>
    public CudaResult GraphExecutableDestroy(nint executable) => Destroy("cuGraphExecDestroy", "executable graph", executable);

    /// <inheritdoc/>
    public CudaResult GraphDestroy(nint graph) => Destroy("cuGraphDestroy", "graph", graph);

    /// <summary>Writes a call down; a status when it is the one to fail.</summary>
    private CudaResult? Record(string call)
    {
        calls.Add(call);
        return calls.Count - 1 == failingCall ? failure : null;
    }

    /// <summary>Writes a call down that needs the context and a live handle.</summary>
    private CudaResult? RecordWith(string call, nint handle, string kind)
    {
        if (Record(call) is { } failed)
        {
            return failed;
        }

        if (context == 0 || currentContext != context)
        {
            return CudaResult.InvalidContext;
        }

        return IsHandle(handle, kind) ? null : CudaResult.InvalidHandle;
    }

    private CudaResult Create(string call, string kind, out nint handle)
    {
        handle = 0;
        if (Record(call) is { } failed)
        {
            return failed;
        }

        if (context == 0 || currentContext != context)
        {
            return CudaResult.InvalidContext;
        }

        handle = nextHandle++;
        handles.Add(handle, kind);
        return CudaResult.Success;
    }

    private CudaResult Destroy(string call, string kind, nint handle)
    {
        if (RecordWith(call, handle, kind) is { } failed)
        {
            return failed;
        }

        handles.Remove(handle);
        return CudaResult.Success;
    }

    private CudaResult Queue(string call, nint stream, bool isValid, Action effect)
    {
        if (RecordWith(call, stream, "stream") is { } failed)
        {
            return failed;
        }

        if (!isValid)
        {
            return CudaResult.InvalidValue;
        }

        if (capturing == stream)
        {
            captured.Add(call);
        }
        else
        {
            Executed.Add(call);
            effect();
        }

        return CudaResult.Success;
    }

    private bool IsHandle(nint handle, string kind) => handles.TryGetValue(handle, out string? actual) && actual == kind;

    /// <summary>Whether a range lies inside one live allocation.</summary>
    private bool Owns(nint address, nuint bytes)
    {
        foreach ((nint start, nuint size) in memory)
        {
            if (address >= start && (nuint)(address - start) + bytes <= size)
            {
                return true;
            }
        }

        return false;
    }
}
