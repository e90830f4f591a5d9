namespace ExactFlow.Cuda;

/// <summary>Compiled kernels, loaded into a device.</summary>
public sealed class CudaModule : IDisposable
{
    private const int SharedBytesWithoutAsking = 48 * 1024;
    private readonly CudaDevice device;
    private nint handle;

    /// <summary>Loads kernels.</summary>
    /// <param name="device">Where they will run.</param>
    /// <param name="image">A cubin, or PTX text that ends with a zero byte.</param>
    public CudaModule(CudaDevice device, ReadOnlySpan<byte> image)
    {
        ArgumentNullException.ThrowIfNull(device);
        this.device = device;
        device.UseOnThisThread();
        device.Check(device.Driver.ModuleLoadData(out handle, image), "cuModuleLoadData");
    }

    /// <summary>A kernel of the module.</summary>
    /// <param name="name">Its name as exported (<c>extern "C"</c>).</param>
    /// <param name="sharedBytes">The most dynamic shared memory that its launches will ask for; beyond 48 KB the driver wants to know beforehand.</param>
    public CudaFunction Function(string name, int sharedBytes = 0)
    {
        ObjectDisposedException.ThrowIf(handle == 0, this);
        device.UseOnThisThread();
        device.Check(device.Driver.ModuleGetFunction(out nint function, handle, name), "cuModuleGetFunction", name);
        if (sharedBytes > SharedBytesWithoutAsking)
        {
            device.Check(device.Driver.FunctionSetAttribute(function, CudaFunctionAttribute.MaxDynamicSharedBytes, sharedBytes), "cuFuncSetAttribute", name);
        }

        return new CudaFunction(function, name);
    }

    /// <summary>Unloads the kernels; the caller sees to it that none is still queued.</summary>
    public void Dispose()
    {
        if (handle != 0)
        {
            nint unloaded = handle;
            handle = 0;
            device.UseOnThisThread();
            device.Check(device.Driver.ModuleUnload(unloaded), "cuModuleUnload");
        }
    }
}

/// <summary>A kernel, valid as long as its <see cref="CudaModule"/>.</summary>
/// <param name="Handle">The driver's handle.</param>
/// <param name="Name">Its name, for messages.</param>
public readonly record struct CudaFunction(nint Handle, string Name);
