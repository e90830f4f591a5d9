using System.Text;
using ExactFlow.Tensors;

namespace ExactFlow.Cuda;

/// <summary>
/// A GPU: memory, copies and launches in the order of one stream. Memory the pool takes back may be handed out again at once,
/// because whatever still reads it was queued earlier on the same stream.
/// </summary>
public sealed unsafe class CudaDevice : Device
{
    /// <summary>The oldest driver that is accepted, as CUDA 12.0: 1000 * major + 10 * minor.</summary>
    public const int OldestDriver = 12_000;

    private const uint NonBlockingStream = 1;

    /// <summary>The first CUDA whose graphs keep kernels that begin early: 12.3.</summary>
    private const int EarlyBeginDriver = 12_030;

    [ThreadStatic]
    private static nint contextOfThread;

    /// <summary>
    /// Taken for captures, and by whatever makes the driver wait for a whole GPU: loading and unloading kernels, page-locked memory, the beginning and the end of a device
    /// and of its product library. Such a wait includes streams of other devices (lanes) of the process and breaks the capture of one that is being captured; the next
    /// call there fails, a product with no more than CUBLAS_STATUS_EXECUTION_FAILED. Products take it too, as their library loads kernels when it needs them. Replays, copies and our
    /// launches are free of it. A thread may take it again.
    /// </summary>
    internal static readonly Lock OneAtATime = new();

    private readonly int device;
    private readonly nint context;
    private IMatrixProducts? matrices;

    /// <summary>Opens a GPU through a driver.</summary>
    /// <param name="driver">The real driver, or a fake in tests.</param>
    /// <param name="ordinal">Which GPU, from 0.</param>
    /// <param name="compiler">What compiles kernels, or null for NVRTC.</param>
    /// <param name="cache">Where compiled kernels are kept, or null for the user's cache folder.</param>
    /// <param name="matrices">What multiplies matrices, or null for cuBLASLt, which is loaded when first needed.</param>
    /// <exception cref="InvalidInputException">There is no such GPU, or its driver is too old.</exception>
    /// <exception cref="CudaException">A call failed; whatever had been taken is given back.</exception>
    public CudaDevice(ICudaDriver driver, int ordinal = 0, IKernelCompiler? compiler = null, KernelCache? cache = null, IMatrixProducts? matrices = null)
    {
        ArgumentNullException.ThrowIfNull(driver);
        Driver = driver;
        Name = $"cuda:{ordinal}";
        Constants = new CudaConstants(this);
        PageLocked = new PageLockedMemory(this);
        this.matrices = matrices;
        Kernels = new KernelLibrary(this, compiler ?? new NvrtcCompiler(Name), cache ?? new KernelCache());
        using Lock.Scope alone = OneAtATime.EnterScope();
        device = Find(ordinal);
        Check(driver.PrimaryContextRetain(out context, device), "cuDevicePrimaryCtxRetain");
        try
        {
            UseOnThisThread();
            MultiprocessorCount = Attribute(CudaDeviceAttribute.MultiprocessorCount);
            ComputeCapability = new Version(Attribute(CudaDeviceAttribute.ComputeCapabilityMajor), Attribute(CudaDeviceAttribute.ComputeCapabilityMinor));
            Check(driver.DriverGetVersion(out int version), "cuDriverGetVersion");
            AllowsEarlyBegin = ComputeCapability.Major >= 9 && version >= EarlyBeginDriver;
            MaxSharedBytes = Attribute(CudaDeviceAttribute.MaxSharedMemoryPerBlockOptIn);
            ModelName = ReadModelName();
            Check(driver.DeviceTotalMem(out nuint bytes, device), "cuDeviceTotalMem");
            TotalBytes = (long)bytes;
            Check(driver.StreamCreate(out nint stream, NonBlockingStream), "cuStreamCreate");
            Stream = stream;
        }
        catch
        {
            ReleaseContext();
            throw;
        }
    }

    /// <inheritdoc/>
    public override string Name { get; }

    /// <summary>The product's name, such as <c>NVIDIA H100 80GB HBM3</c>.</summary>
    public string ModelName { get; }

    /// <summary>Memory of the GPU, in bytes.</summary>
    public long TotalBytes { get; }

    /// <inheritdoc/>
    public override long? FreeBytes
    {
        get
        {
            UseOnThisThread();
            return Driver.MemGetInfo(out nuint free, out _) == CudaResult.Success ? (long)free : null;
        }
    }

    /// <summary>Multiprocessors.</summary>
    public int MultiprocessorCount { get; }

    /// <summary>Compute capability, such as 9.0.</summary>
    public Version ComputeCapability { get; }

    /// <summary>Bytes of shared memory that a block may use.</summary>
    public int MaxSharedBytes { get; }

    /// <summary>
    /// Whether kernels that can begin before the one ahead of them has ended (<see cref="LaunchGeometry.BeginsEarly"/>) may do so: from compute capability 9.0
    /// and CUDA 12.3 on, as long as nobody says otherwise. Results are the same either way.
    /// </summary>
    public bool AllowsEarlyBegin { get; set; }

    /// <summary>The kernels of this device, compiled when first asked for.</summary>
    public KernelLibrary Kernels { get; }

    /// <summary>Tables that recur from step to step.</summary>
    public CudaConstants Constants { get; }

    /// <summary>Host memory for results on their way.</summary>
    internal PageLockedMemory PageLocked { get; }

    /// <summary>Whether queued work is being recorded by <see cref="Capture"/> instead of running.</summary>
    public bool IsCapturing { get; private set; }

    /// <summary>The stream everything is queued on.</summary>
    internal nint Stream { get; }

    /// <summary>The driver underneath.</summary>
    internal ICudaDriver Driver { get; }

    /// <summary>GPUs that can be opened; 0 when the driver finds none.</summary>
    /// <exception cref="InvalidInputException">The driver is older than <see cref="OldestDriver"/>.</exception>
    /// <exception cref="CudaException">A call failed.</exception>
    public static int CountDevices(ICudaDriver driver)
    {
        ArgumentNullException.ThrowIfNull(driver);
        CudaResult initialised = driver.Init();
        if (initialised == CudaResult.NoDevice)
        {
            return 0;
        }

        Check(driver, initialised, "cuInit", "this machine");
        Check(driver, driver.DriverGetVersion(out int version), "cuDriverGetVersion", "this machine");
        if (version < OldestDriver)
        {
            throw new InvalidInputException(
                $"Using a GPU needs an NVIDIA driver for CUDA {OldestDriver / 1000}.{OldestDriver % 1000 / 10} or newer, but the installed one runs CUDA {version / 1000}.{version % 1000 / 10} at most: update the driver, or use --device cpu.");
        }

        Check(driver, driver.DeviceGetCount(out int count), "cuDeviceGetCount", "this machine");
        return count;
    }

    /// <inheritdoc/>
    public override void Synchronize()
    {
        UseOnThisThread();
        Check(Driver.StreamSynchronize(Stream), "cuStreamSynchronize");
    }

    /// <summary>Queues a kernel.</summary>
    /// <param name="function">From <see cref="CudaModule.Function"/>.</param>
    /// <param name="geometry">Grid, block and shared memory.</param>
    /// <param name="arguments">The address of each argument, in the kernel's order; read before the call returns.</param>
    /// <exception cref="ArgumentException">The geometry is outside what a GPU can launch.</exception>
    public void Launch(CudaFunction function, LaunchGeometry geometry, ReadOnlySpan<nint> arguments)
    {
        string? problem = geometry.Problem() ?? (geometry.SharedBytes > MaxSharedBytes ? $"a block of {Name} has at most {MaxSharedBytes:N0} bytes of shared memory" : null);
        if (problem is not null)
        {
            throw new ArgumentException($"Kernel {function.Name} cannot be launched with {geometry}: {problem}.", nameof(geometry));
        }

        geometry = geometry with { BeginsEarly = geometry.BeginsEarly && AllowsEarlyBegin };
        UseOnThisThread();
        fixed (nint* pointers = arguments)
        {
            Check(Driver.LaunchKernel(function.Handle, geometry, Stream, (void**)pointers), "cuLaunchKernel", function.Name);
        }
    }

    /// <summary>Queues a matrix product. The first one loads the library that multiplies, unless the device was given one.</summary>
    /// <exception cref="InvalidInputException">The library is missing.</exception>
    /// <exception cref="CudaException">The library refused; the message holds the shapes.</exception>
    /// <exception cref="InvalidOperationException">The first product of this device is being captured: run the work once before capturing it.</exception>
    public void Multiply(in MatrixProduct product)
    {
        UseOnThisThread();
        lock (OneAtATime)
        {
            matrices ??= IsCapturing
                ? throw new InvalidOperationException($"The first matrix product on {Name} cannot be captured, because it takes memory: run the work once before capturing it.")
                : new CublasLtProducts(this);
            matrices.Multiply(product, Stream);
        }
    }

    /// <summary>Records what <paramref name="work"/> queues into a graph, instead of running it. The work must not wait for the device nor allocate.</summary>
    public CudaGraph Capture(Action work)
    {
        ArgumentNullException.ThrowIfNull(work);
        UseOnThisThread();
        lock (OneAtATime)
        {
            return Record(work);
        }
    }

    private CudaGraph Record(Action work)
    {
        Check(Driver.StreamBeginCapture(Stream), "cuStreamBeginCapture");
        IsCapturing = true;
        try
        {
            work();
        }
        catch
        {
            // What went wrong in the work is the error to show; a capture it broke ends without a graph.
            if (Driver.StreamEndCapture(Stream, out nint unfinished) == CudaResult.Success && unfinished != 0)
            {
                _ = Driver.GraphDestroy(unfinished);
            }

            throw;
        }
        finally
        {
            IsCapturing = false;
        }

        Check(Driver.StreamEndCapture(Stream, out nint graph), "cuStreamEndCapture");
        return new CudaGraph(this, graph);
    }

    /// <inheritdoc/>
    protected override nint AllocateNative(long bytes)
    {
        RequireNotCapturing($"allocating {bytes:N0} bytes");
        UseOnThisThread();
        CudaResult result = Driver.MemAllocAsync(out nint address, checked((nuint)bytes), Stream);
        if (result == CudaResult.OutOfMemory)
        {
            throw new OutOfMemoryException($"{ModelName} ({Name}) has no {bytes:N0} bytes left of its {TotalBytes:N0}.");
        }

        Check(result, "cuMemAllocAsync", $"{bytes:N0} bytes");
        return address;
    }

    /// <inheritdoc/>
    protected override void FreeNative(nint address, long bytes)
    {
        UseOnThisThread();
        Check(Driver.MemFreeAsync(address, Stream), "cuMemFreeAsync", $"{bytes:N0} bytes");
    }

    /// <inheritdoc/>
    protected override void Fill(nint address, long bytes, byte value)
    {
        if (bytes > 0)
        {
            UseOnThisThread();
            Check(Driver.MemsetD8Async(address, value, checked((nuint)bytes), Stream), "cuMemsetD8Async", $"{bytes:N0} bytes");
        }
    }

    /// <inheritdoc/>
    protected override void Upload(ReadOnlySpan<byte> source, nint destination)
    {
        if (source.IsEmpty)
        {
            return;
        }

        // The driver has read pageable memory when the call returns; memory it pinned is never passed here.
        RequireNotCapturing($"copying {source.Length:N0} bytes from host memory");
        UseOnThisThread();
        fixed (byte* bytes = source)
        {
            Check(Driver.MemcpyHtoDAsync(destination, bytes, (nuint)source.Length, Stream), "cuMemcpyHtoDAsync", $"{source.Length:N0} bytes");
        }
    }

    /// <inheritdoc/>
    protected override void Download(nint source, Span<byte> destination)
    {
        if (destination.IsEmpty)
        {
            return;
        }

        UseOnThisThread();
        fixed (byte* bytes = destination)
        {
            Check(Driver.MemcpyDtoHAsync(bytes, source, (nuint)destination.Length, Stream), "cuMemcpyDtoHAsync", $"{destination.Length:N0} bytes");
            Check(Driver.StreamSynchronize(Stream), "cuStreamSynchronize");
        }
    }

    /// <inheritdoc/>
    protected override void Copy(nint source, nint destination, long bytes)
    {
        if (bytes > 0)
        {
            UseOnThisThread();
            Check(Driver.MemcpyDtoDAsync(destination, source, checked((nuint)bytes), Stream), "cuMemcpyDtoDAsync", $"{bytes:N0} bytes");
        }
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        using Lock.Scope alone = OneAtATime.EnterScope();
        try
        {
            Kernels.Dispose();
            UseOnThisThread();
            matrices?.Dispose();
            Constants.Free();
            CudaResult unpinned = PageLocked.Free();
            Check(Driver.StreamDestroy(Stream), "cuStreamDestroy");
            Check(unpinned, "cuMemFreeHost");
        }
        finally
        {
            ReleaseContext();
        }
    }

    /// <summary>Memory that the pool does not manage; before the device is full, the pool gives back what it does not use.</summary>
    /// <exception cref="OutOfMemoryException">Even so there is not enough.</exception>
    internal nint AllocateOutsideThePool(long bytes)
    {
        try
        {
            return AllocateNative(bytes);
        }
        catch (OutOfMemoryException)
        {
            Pool.Trim();
            return AllocateNative(bytes);
        }
    }

    /// <summary>Makes the context current for the calling thread, which the driver asks of every call. Free when it already is.</summary>
    internal void UseOnThisThread()
    {
        if (contextOfThread != context)
        {
            Check(Driver.ContextSetCurrent(context), "cuCtxSetCurrent");
            contextOfThread = context;
        }
    }

    /// <summary>Throws unless a call succeeded.</summary>
    internal void Check(CudaResult result, string call, string? subject = null) => Check(Driver, result, call, subject is null ? Name : $"{Name} ({subject})");

    /// <summary>A graph would do it once, when it is captured, or read host memory that is gone at its replay.</summary>
    internal void RequireNotCapturing(string what)
    {
        if (IsCapturing)
        {
            throw new InvalidOperationException($"Work that is captured as a graph on {Name} was {what}; do that before the capture.");
        }
    }

    private static void Check(ICudaDriver driver, CudaResult result, string call, string subject)
    {
        if (result != CudaResult.Success)
        {
            throw new CudaException(call, result, $"{call} failed on {subject} with {driver.Describe(result)}.");
        }
    }

    private int Find(int ordinal)
    {
        int count = CountDevices(Driver);
        if ((uint)ordinal >= (uint)count)
        {
            string found = count switch { 0 => "no GPU", 1 => "one GPU, cuda:0", _ => $"{count} GPUs, cuda:0 to cuda:{count - 1}" };
            throw new InvalidInputException($"Opening {Name} failed because the NVIDIA driver reports {found}: choose one that exists, check CUDA_VISIBLE_DEVICES, or use --device cpu.");
        }

        Check(Driver.DeviceGet(out int handle, ordinal), "cuDeviceGet");
        return handle;
    }

    private int Attribute(CudaDeviceAttribute attribute)
    {
        Check(Driver.DeviceGetAttribute(out int value, attribute, device), "cuDeviceGetAttribute", attribute.ToString());
        return value;
    }

    private string ReadModelName()
    {
        Span<byte> name = stackalloc byte[256];
        name.Clear();
        Check(Driver.DeviceGetName(name, device), "cuDeviceGetName");
        int end = name.IndexOf((byte)0);
        return Encoding.UTF8.GetString(end < 0 ? name : name[..end]);
    }

    private void ReleaseContext()
    {
        if (contextOfThread == context)
        {
            contextOfThread = 0;
        }

        Check(Driver.PrimaryContextRelease(device), "cuDevicePrimaryCtxRelease");
    }
}
