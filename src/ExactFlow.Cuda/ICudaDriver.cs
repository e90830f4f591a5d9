namespace ExactFlow.Cuda;

/// <summary>
/// The driver functions this project uses, one method each under the driver's own name, status codes returned as they are.
/// Everything above this line runs equally on the real library (<see cref="LibcudaDriver"/>) and on a recording fake, so launch geometry,
/// lifetimes and order are tested without a GPU. Handles (contexts, streams, events, modules, functions, graphs) and device addresses are <see cref="nint"/>.
/// </summary>
public unsafe interface ICudaDriver
{
    /// <summary>The driver's name and description of a status, such as <c>CUDA_ERROR_NO_DEVICE (no CUDA-capable device is detected)</c>.</summary>
    string Describe(CudaResult result);

    /// <summary>cuInit.</summary>
    CudaResult Init();

    /// <summary>cuDriverGetVersion: 1000 * major + 10 * minor of the newest CUDA it runs.</summary>
    CudaResult DriverGetVersion(out int version);

    /// <summary>cuDeviceGetCount.</summary>
    CudaResult DeviceGetCount(out int count);

    /// <summary>cuDeviceGet.</summary>
    CudaResult DeviceGet(out int device, int ordinal);

    /// <summary>cuDeviceGetName: zero-terminated UTF-8.</summary>
    CudaResult DeviceGetName(Span<byte> name, int device);

    /// <summary>cuDeviceGetAttribute.</summary>
    CudaResult DeviceGetAttribute(out int value, CudaDeviceAttribute attribute, int device);

    /// <summary>cuDeviceTotalMem.</summary>
    CudaResult DeviceTotalMem(out nuint bytes, int device);

    /// <summary>cuMemGetInfo: of the current context's GPU, in bytes.</summary>
    CudaResult MemGetInfo(out nuint free, out nuint total);

    /// <summary>cuDevicePrimaryCtxRetain.</summary>
    CudaResult PrimaryContextRetain(out nint context, int device);

    /// <summary>cuDevicePrimaryCtxRelease.</summary>
    CudaResult PrimaryContextRelease(int device);

    /// <summary>cuCtxSetCurrent, for the calling thread.</summary>
    CudaResult ContextSetCurrent(nint context);

    /// <summary>cuStreamCreate.</summary>
    CudaResult StreamCreate(out nint stream, uint flags);

    /// <summary>cuStreamDestroy.</summary>
    CudaResult StreamDestroy(nint stream);

    /// <summary>cuStreamSynchronize.</summary>
    CudaResult StreamSynchronize(nint stream);

    /// <summary>cuEventCreate.</summary>
    CudaResult EventCreate(out nint handle, uint flags);

    /// <summary>cuEventDestroy.</summary>
    CudaResult EventDestroy(nint handle);

    /// <summary>cuEventRecord.</summary>
    CudaResult EventRecord(nint handle, nint stream);

    /// <summary>cuEventSynchronize.</summary>
    CudaResult EventSynchronize(nint handle);

    /// <summary>cuEventElapsedTime.</summary>
    CudaResult EventElapsedTime(out float milliseconds, nint start, nint end);

    /// <summary>cuMemAllocAsync.</summary>
    CudaResult MemAllocAsync(out nint address, nuint bytes, nint stream);

    /// <summary>cuMemFreeAsync.</summary>
    CudaResult MemFreeAsync(nint address, nint stream);

    /// <summary>cuMemHostAlloc: host memory that copies need not be staged for.</summary>
    CudaResult MemHostAlloc(out nint address, nuint bytes);

    /// <summary>cuMemFreeHost.</summary>
    CudaResult MemFreeHost(nint address);

    /// <summary>cuMemsetD8Async.</summary>
    CudaResult MemsetD8Async(nint address, byte value, nuint bytes, nint stream);

    /// <summary>cuMemcpyHtoDAsync.</summary>
    CudaResult MemcpyHtoDAsync(nint destination, void* source, nuint bytes, nint stream);

    /// <summary>cuMemcpyDtoHAsync.</summary>
    CudaResult MemcpyDtoHAsync(void* destination, nint source, nuint bytes, nint stream);

    /// <summary>cuMemcpyDtoDAsync.</summary>
    CudaResult MemcpyDtoDAsync(nint destination, nint source, nuint bytes, nint stream);

    /// <summary>cuModuleLoadData: PTX text (zero-terminated) or a cubin.</summary>
    CudaResult ModuleLoadData(out nint module, ReadOnlySpan<byte> image);

    /// <summary>cuModuleUnload.</summary>
    CudaResult ModuleUnload(nint module);

    /// <summary>cuModuleGetFunction.</summary>
    CudaResult ModuleGetFunction(out nint function, nint module, string name);

    /// <summary>cuFuncSetAttribute.</summary>
    CudaResult FunctionSetAttribute(nint function, CudaFunctionAttribute attribute, int value);

    /// <summary>cuLaunchKernel, or cuLaunchKernelEx where the geometry asks for more than grid, block and shared memory.</summary>
    CudaResult LaunchKernel(nint function, LaunchGeometry geometry, nint stream, void** arguments);

    /// <summary>cuStreamBeginCapture, in relaxed mode.</summary>
    CudaResult StreamBeginCapture(nint stream);

    /// <summary>cuStreamEndCapture.</summary>
    CudaResult StreamEndCapture(nint stream, out nint graph);

    /// <summary>cuGraphInstantiateWithFlags.</summary>
    CudaResult GraphInstantiate(out nint executable, nint graph);

    /// <summary>cuGraphLaunch.</summary>
    CudaResult GraphLaunch(nint executable, nint stream);

    /// <summary>cuGraphExecDestroy.</summary>
    CudaResult GraphExecutableDestroy(nint executable);

    /// <summary>cuGraphDestroy.</summary>
    CudaResult GraphDestroy(nint graph);
}
