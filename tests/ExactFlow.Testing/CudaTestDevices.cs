using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Testing.Emulation;
using Xunit;

namespace ExactFlow.Testing;

/// <summary>The devices that tests of kernels run on: the emulated GPU, wherever g++ is, and the real one, where there is one. A test on what is missing is skipped and says why.</summary>
public static class CudaTestDevices
{
    /// <summary>Name of the emulated GPU in test data.</summary>
    public const string Emulated = "emulated";

    /// <summary>Name of the first real GPU in test data.</summary>
    public const string Real = "cuda";

    private static readonly Lazy<string?> WhyNoGpu = new(FindWhyNoGpu);

    /// <summary>Both names.</summary>
    public static IEnumerable<string> Names => [Emulated, Real];

    /// <summary>Whether this machine has a GPU.</summary>
    public static bool HasReal => WhyNoGpu.Value is null;

    /// <summary>Opens a device by its name; fresh memory is filled with NaN.</summary>
    public static CudaDevice Open(string name) => name == Emulated ? OpenEmulated() : OpenReal();

    /// <summary>Opens the emulated GPU; skips the running test where kernels cannot be compiled for it.</summary>
    /// <param name="driver">Its driver, or null for a new one.</param>
    public static CudaDevice OpenEmulated(EmulatedCudaDriver? driver = null)
    {
        Assert.SkipUnless(EmulatedKernelCompiler.IsAvailable, "The emulated GPU compiles kernels with g++ on x64 Linux, and there is no g++ on the PATH.");
        driver ??= new EmulatedCudaDriver();
        return new CudaDevice(driver, compiler: new EmulatedKernelCompiler(), cache: new KernelCache(CacheFolder), matrices: new EmulatedMatrixProducts(driver)) { PoisonFreshMemory = true };
    }

    /// <summary>Opens the first GPU of this machine; skips the running test when there is none.</summary>
    public static CudaDevice OpenReal()
    {
        Assert.SkipUnless(WhyNoGpu.Value is null, WhyNoGpu.Value ?? "");
        var device = (CudaDevice)DeviceFactory.Parse("cuda");
        device.PoisonFreshMemory = true;
        return device;
    }

    /// <summary>Compiled kernels of the emulated GPU, kept from run to run.</summary>
    private static string CacheFolder => Path.Combine(Path.GetTempPath(), $"exactflow-emulated-kernels-{Environment.UserName}");

    private static string? FindWhyNoGpu()
    {
        if (!CudaLibrary.Driver.TryLoad(out string where))
        {
            return $"No NVIDIA driver library in {where}.";
        }

        try
        {
            DeviceFactory.Parse("cuda").Dispose();
            return null;
        }
        catch (InvalidInputException exception)
        {
            return exception.Message;
        }
    }
}
