using System.Runtime.InteropServices;

namespace ExactFlow.Cuda;

/// <summary>The real driver. The library is found and loaded when the first instance is made; see <see cref="CudaLibrary"/>.</summary>
public sealed unsafe class LibcudaDriver : ICudaDriver
{
    /// <summary>Loads the driver library for a device.</summary>
    /// <param name="device">The device that was asked for, for the message when there is no library.</param>
    /// <exception cref="Tensors.InvalidInputException">No library was found.</exception>
    public LibcudaDriver(string device = "cuda") => CudaLibrary.Driver.Load(device);

    /// <inheritdoc/>
    public string Describe(CudaResult result)
    {
        string name = CudaImports.GetErrorName(result, out nint text) == CudaResult.Success ? Marshal.PtrToStringUTF8(text)! : $"CUDA error {(int)result}";
        return CudaImports.GetErrorString(result, out text) == CudaResult.Success ? $"{name} ({Marshal.PtrToStringUTF8(text)})" : name;
    }

    /// <inheritdoc/>
    public CudaResult Init() => CudaImports.Init(0);

    /// <inheritdoc/>
    public CudaResult DriverGetVersion(out int version) => CudaImports.DriverGetVersion(out version);

    /// <inheritdoc/>
    public CudaResult DeviceGetCount(out int count) => CudaImports.DeviceGetCount(out count);

    /// <inheritdoc/>
    public CudaResult DeviceGet(out int device, int ordinal) => CudaImports.DeviceGet(out device, ordinal);

    /// <inheritdoc/>
    public CudaResult DeviceGetName(Span<byte> name, int device)
    {
        fixed (byte* text = name)
        {
            return CudaImports.DeviceGetName(text, name.Length, device);
        }
    }

    /// <inheritdoc/>
    public CudaResult DeviceGetAttribute(out int value, CudaDeviceAttribute attribute, int device) => CudaImports.DeviceGetAttribute(out value, attribute, device);

    /// <inheritdoc/>
    public CudaResult DeviceTotalMem(out nuint bytes, int device) => CudaImports.DeviceTotalMem(out bytes, device);

    /// <inheritdoc/>
    public CudaResult MemGetInfo(out nuint free, out nuint total) => CudaImports.MemGetInfo(out free, out total);

    /// <inheritdoc/>
    public CudaResult PrimaryContextRetain(out nint context, int device) => CudaImports.PrimaryContextRetain(out context, device);

    /// <inheritdoc/>
    public CudaResult PrimaryContextRelease(int device) => CudaImports.PrimaryContextRelease(device);

    /// <inheritdoc/>
    public CudaResult ContextSetCurrent(nint context) => CudaImports.ContextSetCurrent(context);

    /// <inheritdoc/>
    public CudaResult StreamCreate(out nint stream, uint flags) => CudaImports.StreamCreate(out stream, flags);

    /// <inheritdoc/>
    public CudaResult StreamDestroy(nint stream) => CudaImports.StreamDestroy(stream);

    /// <inheritdoc/>
    public CudaResult StreamSynchronize(nint stream) => CudaImports.StreamSynchronize(stream);

    /// <inheritdoc/>
    public CudaResult EventCreate(out nint handle, uint flags) => CudaImports.EventCreate(out handle, flags);

    /// <inheritdoc/>
    public CudaResult EventDestroy(nint handle) => CudaImports.EventDestroy(handle);

    /// <inheritdoc/>
    public CudaResult EventRecord(nint handle, nint stream) => CudaImports.EventRecord(handle, stream);

    /// <inheritdoc/>
    public CudaResult EventSynchronize(nint handle) => CudaImports.EventSynchronize(handle);

    /// <inheritdoc/>
    public CudaResult EventElapsedTime(out float milliseconds, nint start, nint end) => CudaImports.EventElapsedTime(out milliseconds, start, end);

    /// <inheritdoc/>
    public CudaResult MemAllocAsync(out nint address, nuint bytes, nint stream) => CudaImports.MemAllocAsync(out address, bytes, stream);

    /// <inheritdoc/>
    public CudaResult MemFreeAsync(nint address, nint stream) => CudaImports.MemFreeAsync(address, stream);

    /// <inheritdoc/>
    public CudaResult MemHostAlloc(out nint address, nuint bytes) => CudaImports.MemHostAlloc(out address, bytes, 0);

    /// <inheritdoc/>
    public CudaResult MemFreeHost(nint address) => CudaImports.MemFreeHost(address);

    /// <inheritdoc/>
    public CudaResult MemsetD8Async(nint address, byte value, nuint bytes, nint stream) => CudaImports.MemsetD8Async(address, value, bytes, stream);

    /// <inheritdoc/>
    public CudaResult MemcpyHtoDAsync(nint destination, void* source, nuint bytes, nint stream) => CudaImports.MemcpyHtoDAsync(destination, source, bytes, stream);

    /// <inheritdoc/>
    public CudaResult MemcpyDtoHAsync(void* destination, nint source, nuint bytes, nint stream) => CudaImports.MemcpyDtoHAsync(destination, source, bytes, stream);

    /// <inheritdoc/>
    public CudaResult MemcpyDtoDAsync(nint destination, nint source, nuint bytes, nint stream) => CudaImports.MemcpyDtoDAsync(destination, source, bytes, stream);

    /// <inheritdoc/>
    public CudaResult ModuleLoadData(out nint module, ReadOnlySpan<byte> image)
    {
        fixed (byte* data = image)
        {
            return CudaImports.ModuleLoadData(out module, data);
        }
    }

    /// <inheritdoc/>
    public CudaResult ModuleUnload(nint module) => CudaImports.ModuleUnload(module);

    /// <inheritdoc/>
    public CudaResult ModuleGetFunction(out nint function, nint module, string name) => CudaImports.ModuleGetFunction(out function, module, name);

    /// <inheritdoc/>
    public CudaResult FunctionSetAttribute(nint function, CudaFunctionAttribute attribute, int value) => CudaImports.FunctionSetAttribute(function, attribute, value);

    /// <inheritdoc/>
    public CudaResult LaunchKernel(nint function, LaunchGeometry geometry, nint stream, void** arguments)
    {
        if (!geometry.BeginsEarly)
        {
            return CudaImports.LaunchKernel(
                function, geometry.GridX, geometry.GridY, geometry.GridZ, geometry.BlockX, geometry.BlockY, geometry.BlockZ, geometry.SharedBytes, stream, arguments, null);
        }

        CudaImports.LaunchAttribute attribute = new() { Id = CudaImports.ProgrammaticStreamSerialization, Value = 1 };
        CudaImports.LaunchConfiguration configuration = new() { Geometry = new(geometry), Stream = stream, Attributes = &attribute, AttributeCount = 1 };
        return CudaImports.LaunchKernelEx(&configuration, function, arguments, null);
    }

    /// <inheritdoc/>
    public CudaResult StreamBeginCapture(nint stream) => CudaImports.StreamBeginCapture(stream, CudaImports.CaptureModeRelaxed);

    /// <inheritdoc/>
    public CudaResult StreamEndCapture(nint stream, out nint graph) => CudaImports.StreamEndCapture(stream, out graph);

    /// <inheritdoc/>
    public CudaResult GraphInstantiate(out nint executable, nint graph) => CudaImports.GraphInstantiate(out executable, graph, 0);

    /// <inheritdoc/>
    public CudaResult GraphLaunch(nint executable, nint stream) => CudaImports.GraphLaunch(executable, stream);

    /// <inheritdoc/>
    public CudaResult GraphExecutableDestroy(nint executable) => CudaImports.GraphExecutableDestroy(executable);

    /// <inheritdoc/>
    public CudaResult GraphDestroy(nint graph) => CudaImports.GraphDestroy(graph);
}
