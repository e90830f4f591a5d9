using System.Runtime.InteropServices;

namespace ExactFlow.Cuda;

/// <summary>
/// The import table of the CUDA driver: one line per function, under the versioned names that the library exports
/// (its headers map the plain names to them).
/// </summary>
internal static unsafe partial class CudaImports
{
    /// <summary>The name the resolver of <see cref="CudaLibrary"/> answers to; no file is called so.</summary>
    public const string Library = "cuda-driver";

    /// <summary>CU_STREAM_CAPTURE_MODE_RELAXED: libraries may load a kernel while a stream is captured. What would break a replay is refused by <see cref="CudaDevice"/> itself.</summary>
    public const int CaptureModeRelaxed = 2;

    /// <summary>CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION.</summary>
    public const int ProgrammaticStreamSerialization = 6;

    [LibraryImport(Library, EntryPoint = "cuInit")]
    public static partial CudaResult Init(uint flags);

    [LibraryImport(Library, EntryPoint = "cuGetErrorName")]
    public static partial CudaResult GetErrorName(CudaResult result, out nint text);

    [LibraryImport(Library, EntryPoint = "cuGetErrorString")]
    public static partial CudaResult GetErrorString(CudaResult result, out nint text);

    [LibraryImport(Library, EntryPoint = "cuDriverGetVersion")]
    public static partial CudaResult DriverGetVersion(out int version);

    [LibraryImport(Library, EntryPoint = "cuDeviceGetCount")]
    public static partial CudaResult DeviceGetCount(out int count);

    [LibraryImport(Library, EntryPoint = "cuDeviceGet")]
    public static partial CudaResult DeviceGet(out int device, int ordinal);

    [LibraryImport(Library, EntryPoint = "cuDeviceGetName")]
    public static partial CudaResult DeviceGetName(byte* name, int length, int device);

    [LibraryImport(Library, EntryPoint = "cuDeviceGetAttribute")]
    public static partial CudaResult DeviceGetAttribute(out int value, CudaDeviceAttribute attribute, int device);

    [LibraryImport(Library, EntryPoint = "cuDeviceTotalMem_v2")]
    public static partial CudaResult DeviceTotalMem(out nuint bytes, int device);

    [LibraryImport(Library, EntryPoint = "cuMemGetInfo_v2")]
    public static partial CudaResult MemGetInfo(out nuint free, out nuint total);

    [LibraryImport(Library, EntryPoint = "cuDevicePrimaryCtxRetain")]
    public static partial CudaResult PrimaryContextRetain(out nint context, int device);

    [LibraryImport(Library, EntryPoint = "cuDevicePrimaryCtxRelease_v2")]
    public static partial CudaResult PrimaryContextRelease(int device);

    [LibraryImport(Library, EntryPoint = "cuCtxSetCurrent")]
    public static partial CudaResult ContextSetCurrent(nint context);

    [LibraryImport(Library, EntryPoint = "cuStreamCreate")]
    public static partial CudaResult StreamCreate(out nint stream, uint flags);

    [LibraryImport(Library, EntryPoint = "cuStreamDestroy_v2")]
    public static partial CudaResult StreamDestroy(nint stream);

    [LibraryImport(Library, EntryPoint = "cuStreamSynchronize")]
    public static partial CudaResult StreamSynchronize(nint stream);

    [LibraryImport(Library, EntryPoint = "cuEventCreate")]
    public static partial CudaResult EventCreate(out nint handle, uint flags);

    [LibraryImport(Library, EntryPoint = "cuEventDestroy_v2")]
    public static partial CudaResult EventDestroy(nint handle);

    [LibraryImport(Library, EntryPoint = "cuEventRecord")]
    public static partial CudaResult EventRecord(nint handle, nint stream);

    [LibraryImport(Library, EntryPoint = "cuEventSynchronize")]
    public static partial CudaResult EventSynchronize(nint handle);

    [LibraryImport(Library, EntryPoint = "cuEventElapsedTime")]
    public static partial CudaResult EventElapsedTime(out float milliseconds, nint start, nint end);

    [LibraryImport(Library, EntryPoint = "cuMemAllocAsync")]
    public static partial CudaResult MemAllocAsync(out nint address, nuint bytes, nint stream);

    [LibraryImport(Library, EntryPoint = "cuMemFreeAsync")]
    public static partial CudaResult MemFreeAsync(nint address, nint stream);

    [LibraryImport(Library, EntryPoint = "cuMemHostAlloc")]
    public static partial CudaResult MemHostAlloc(out nint address, nuint bytes, uint flags);

    [LibraryImport(Library, EntryPoint = "cuMemFreeHost")]
    public static partial CudaResult MemFreeHost(nint address);

    [LibraryImport(Library, EntryPoint = "cuMemsetD8Async")]
    public static partial CudaResult MemsetD8Async(nint address, byte value, nuint bytes, nint stream);

    [LibraryImport(Library, EntryPoint = "cuMemcpyHtoDAsync_v2")]
    public static partial CudaResult MemcpyHtoDAsync(nint destination, void* source, nuint bytes, nint stream);

    [LibraryImport(Library, EntryPoint = "cuMemcpyDtoHAsync_v2")]
    public static partial CudaResult MemcpyDtoHAsync(void* destination, nint source, nuint bytes, nint stream);

    [LibraryImport(Library, EntryPoint = "cuMemcpyDtoDAsync_v2")]
    public static partial CudaResult MemcpyDtoDAsync(nint destination, nint source, nuint bytes, nint stream);

    [LibraryImport(Library, EntryPoint = "cuModuleLoadData")]
    public static partial CudaResult ModuleLoadData(out nint module, byte* image);

    [LibraryImport(Library, EntryPoint = "cuModuleUnload")]
    public static partial CudaResult ModuleUnload(nint module);

    [LibraryImport(Library, EntryPoint = "cuModuleGetFunction", StringMarshalling = StringMarshalling.Utf8)]
    public static partial CudaResult ModuleGetFunction(out nint function, nint module, string name);

    [LibraryImport(Library, EntryPoint = "cuFuncSetAttribute")]
    public static partial CudaResult FunctionSetAttribute(nint function, CudaFunctionAttribute attribute, int value);

    [LibraryImport(Library, EntryPoint = "cuLaunchKernel")]
    public static partial CudaResult LaunchKernel(nint function, int gridX, int gridY, int gridZ, int blockX, int blockY, int blockZ, int sharedBytes, nint stream, void** arguments, void** extra);

    [LibraryImport(Library, EntryPoint = "cuLaunchKernelEx")]
    public static partial CudaResult LaunchKernelEx(LaunchConfiguration* configuration, nint function, void** arguments, void** extra);

    [LibraryImport(Library, EntryPoint = "cuStreamBeginCapture_v2")]
    public static partial CudaResult StreamBeginCapture(nint stream, int mode);

    [LibraryImport(Library, EntryPoint = "cuStreamEndCapture")]
    public static partial CudaResult StreamEndCapture(nint stream, out nint graph);

    [LibraryImport(Library, EntryPoint = "cuGraphInstantiateWithFlags")]
    public static partial CudaResult GraphInstantiate(out nint executable, nint graph, ulong flags);

    [LibraryImport(Library, EntryPoint = "cuGraphLaunch")]
    public static partial CudaResult GraphLaunch(nint executable, nint stream);

    [LibraryImport(Library, EntryPoint = "cuGraphExecDestroy")]
    public static partial CudaResult GraphExecutableDestroy(nint executable);

    [LibraryImport(Library, EntryPoint = "cuGraphDestroy")]
    public static partial CudaResult GraphDestroy(nint graph);

    /// <summary>CUlaunchAttribute with a value of one number.</summary>
    [StructLayout(LayoutKind.Explicit, Size = 72)]
    public struct LaunchAttribute
    {
        [FieldOffset(0)]
        public int Id;

        [FieldOffset(8)]
        public int Value;
    }

    /// <summary>Grid and block as CUlaunchConfig begins.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public readonly struct LaunchExtents(LaunchGeometry geometry)
    {
        private readonly int gridX = geometry.GridX, gridY = geometry.GridY, gridZ = geometry.GridZ;
        private readonly int blockX = geometry.BlockX, blockY = geometry.BlockY, blockZ = geometry.BlockZ, sharedBytes = geometry.SharedBytes;
    }

    /// <summary>CUlaunchConfig.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct LaunchConfiguration
    {
        public LaunchExtents Geometry;
        public nint Stream;
        public LaunchAttribute* Attributes;
        public int AttributeCount;
    }
}
