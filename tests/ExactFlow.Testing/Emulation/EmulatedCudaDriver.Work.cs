using ExactFlow.Cuda;

namespace ExactFlow.Testing.Emulation;

/// <content>How calls are written down, queued, refused and failed, and what handles stand for.</content>
public sealed unsafe partial class EmulatedCudaDriver
{
    /// <summary>Runs work of a stream now, or records it when the stream is being captured.</summary>
    internal CudaResult Queue(string call, nint stream, Func<CudaResult> work)
    {
        if (CallWith(call, stream, out EmulatedStream? target) is { } failed)
        {
            return failed;
        }

        if (capturing == stream)
        {
            target!.Work.Add(work);
            return CudaResult.Success;
        }

        using Lock.Scope scope = working.EnterScope();
        return work();
    }

    /// <summary>A failure with words of its own.</summary>
    internal CudaResult Fail(CudaResult result, string description)
    {
        problem = description;
        return result;
    }

    /// <summary>Whether a range lies inside one block of device memory.</summary>
    internal bool Owns(nint address, nuint bytes) => memory.Owns(address, bytes);

    private static string Kind(object handle) => handle switch
    {
        EmulatedStream => "stream",
        EmulatedEvent => "event",
        EmulatedModule => "module",
        EmulatedGraph => "graph",
        EmulatedHostMemory => "host memory",
        _ => "executable graph",
    };

    private static string? LaunchProblem(EmulatedKernel kernel, LaunchGeometry geometry)
    {
        int threads = geometry.BlockX * geometry.BlockY * geometry.BlockZ;
        return geometry.Problem()
            ?? (threads > kernel.MaxThreads ? $"its launch bounds allow {kernel.MaxThreads} threads"
            : threads % 32 != 0 ? "blocks must consist of whole warps of 32 threads here"
            : geometry.SharedBytes > kernel.MaxSharedBytes ? $"it may use {kernel.MaxSharedBytes} bytes of dynamic shared memory"
            : null);
    }

    private CudaResult Run(EmulatedKernel kernel, LaunchGeometry geometry, byte[][] arguments)
    {
        string? stopped = kernel.Run(geometry, arguments, processor ??= EmulatedProcessor.Take(), memory);
        if (stopped is not null)
        {
            return Fail(CudaResult.LaunchFailed, $"kernel {kernel.Name}, {stopped}");
        }

        return memory.FindOverrun() is { } overrun ? Fail(CudaResult.IllegalAddress, $"kernel {kernel.Name} {overrun}") : CudaResult.Success;
    }

    private CudaResult Access(string call, nint stream, nint address, nuint bytes, Action effect)
        => Queue(call, stream, () =>
        {
            if (!memory.Owns(address, bytes))
            {
                return Fail(CudaResult.IllegalAddress, $"{call} at a place outside of device memory");
            }

            problem = null;
            effect();
            return problem is null ? CudaResult.Success : CudaResult.IllegalAddress;
        });

    /// <summary>Writes a call down; a status when it is the one to fail.</summary>
    private CudaResult? Call(string call)
    {
        problem = null;
        lock (calls)
        {
            calls.Add(call);
            return calls.Count - 1 == failingCall ? failure : null;
        }
    }

    /// <summary>Writes a call down that needs the context and a live handle.</summary>
    private CudaResult? CallWith<T>(string call, nint handle, out T? value)
        where T : class
    {
        value = null;
        if (Call(call) is { } failed)
        {
            return failed;
        }

        return context == 0 || currentContext != context ? CudaResult.InvalidContext : TryGet(handle, out value) ? null : CudaResult.InvalidHandle;
    }

    private CudaResult NotWhileCapturing(string what)
        => capturing == 0 ? CudaResult.Success : Fail(CudaResult.StreamCaptureUnsupported, $"{what} is not possible while the stream is being captured");

    private CudaResult Create(string call, object value, out nint handle)
    {
        handle = 0;
        return Call(call) ?? (context == 0 || currentContext != context ? CudaResult.InvalidContext : Add(value, out handle));
    }

    private CudaResult Add(object value, out nint handle)
    {
        handle = (nint)Interlocked.Increment(ref nextHandle);
        handles[handle] = value;
        return CudaResult.Success;
    }

    private CudaResult Destroy<T>(string call, nint handle)
        where T : class
    {
        if (CallWith<T>(call, handle, out _) is { } failed)
        {
            return failed;
        }

        handles.TryRemove(handle, out _);
        return CudaResult.Success;
    }

    private bool TryGet<T>(nint handle, [System.Diagnostics.CodeAnalysis.NotNullWhen(true)] out T? value)
        where T : class
    {
        value = handles.GetValueOrDefault(handle) as T;
        return value is not null;
    }

    private sealed class EmulatedStream
    {
        /// <summary>What was queued since the capture began.</summary>
        public List<Func<CudaResult>> Work { get; } = [];
    }

    private sealed class EmulatedHostMemory;

    private sealed class EmulatedEvent
    {
        public long Timestamp { get; set; }
    }

    private sealed record EmulatedGraph(Func<CudaResult>[] Work);

    private sealed record EmulatedExecutable(Func<CudaResult>[] Work);
}
