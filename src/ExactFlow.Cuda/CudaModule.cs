namespace ExactFlow.Cuda;

/// <summary>Compiled kernels, loaded into a device.</summary>
public sealed class CudaModule : IDisposable
{
    /// <summary>A block may have 48 KB of shared memory without asking, of which this leaves 8 for what kernels declare themselves.</summary>
    private const int SharedBytesWithoutAsking = 40 * 1024;
    private const int AllShared = 100;
    private readonly CudaDevice device;
    private nint handle;

    /// <summary>Loads kernels.</summary>
    /// <param name="device">Where they will run.</param>
    /// <param name="image">A cubin, or PTX text that ends with a zero byte.</param>
    public CudaModule(CudaDevice device, ReadOnlySpan<byte> image)
    {
        ArgumentNullException.ThrowIfNull(device);
        this.device = device;
        using Lock.Scope alone = CudaDevice.OneAtATime.EnterScope();
        device.UseOnThisThread();
        device.Check(device.Driver.ModuleLoadData(out handle, image), "cuModuleLoadData");
    }

    /// <summary>A kernel of the module.</summary>
    /// <param name="name">Its name as exported (<c>extern "C"</c>).</param>
    /// <param name="sharedBytes">The most dynamic shared memory that its launches will ask for; beyond 48 KB, with what kernels declare themselves, the driver wants to know beforehand.</param>
    /// <param name="sharesMultiprocessors">
    /// Whether its blocks are to run beside those of other kernels. Kernels that divide a multiprocessor's first-level memory differently cannot: it is emptied
    /// in between. So these all take as much of it as shared memory as there can be.
    /// </param>
    public CudaFunction Function(string name, int sharedBytes = 0, bool sharesMultiprocessors = false)
    {
        ObjectDisposedException.ThrowIf(handle == 0, this);
        using Lock.Scope alone = CudaDevice.OneAtATime.EnterScope();
        device.UseOnThisThread();
        device.Check(device.Driver.ModuleGetFunction(out nint function, handle, name), "cuModuleGetFunction", name);
        if (sharedBytes > SharedBytesWithoutAsking)
        {
            device.Check(device.Driver.FunctionSetAttribute(function, CudaFunctionAttribute.MaxDynamicSharedBytes, sharedBytes), "cuFuncSetAttribute", name);
        }

        if (sharesMultiprocessors)
        {
            device.Check(device.Driver.FunctionSetAttribute(function, CudaFunctionAttribute.PreferredSharedCarveout, AllShared), "cuFuncSetAttribute", name);
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
            using Lock.Scope alone = CudaDevice.OneAtATime.EnterScope();
            device.UseOnThisThread();
            device.Check(device.Driver.ModuleUnload(unloaded), "cuModuleUnload");
        }
    }
}

/// <summary>A kernel, valid as long as its <see cref="CudaModule"/>.</summary>
/// <param name="Handle">The driver's handle.</param>
/// <param name="Name">Its name, for messages.</param>
public readonly record struct CudaFunction(nint Handle, string Name);
