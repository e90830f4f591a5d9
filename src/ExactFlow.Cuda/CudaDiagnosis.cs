using System.Diagnostics;
using ExactFlow.Tensors;

namespace ExactFlow.Cuda;

/// <summary>
/// What GPUs need, examined in the order in which it is needed: driver, GPU, compiler, a place for compiled kernels, a kernel that really runs, matrix
/// products that are right. Without a driver the rest is left out, since it would be of no use.
/// </summary>
public sealed class CudaDiagnosis
{
    private readonly Func<ICudaDriver> loadDriver;
    private readonly IKernelCompiler compiler;
    private readonly KernelCache cache;
    private readonly Func<ICudaDriver, IMatrixProducts?> loadProducts;
    private readonly List<CudaFinding> findings = [];

    /// <summary>Prepares the examination.</summary>
    /// <param name="loadDriver">Loads the driver, or null for the real one.</param>
    /// <param name="compiler">What compiles kernels, or null for NVRTC.</param>
    /// <param name="cache">Where compiled kernels are kept, or null for the user's cache folder.</param>
    /// <param name="loadProducts">Loads what multiplies matrices, or null for cuBLASLt.</param>
    public CudaDiagnosis(Func<ICudaDriver>? loadDriver = null, IKernelCompiler? compiler = null, KernelCache? cache = null, Func<ICudaDriver, IMatrixProducts?>? loadProducts = null)
    {
        this.loadDriver = loadDriver ?? (() => new LibcudaDriver());
        this.compiler = compiler ?? new NvrtcCompiler();
        this.cache = cache ?? new KernelCache();
        this.loadProducts = loadProducts ?? (_ => null);
    }

    /// <summary>Examines everything.</summary>
    public IReadOnlyList<CudaFinding> Examine()
    {
        findings.Clear();
        ICudaDriver? driver = null;
        int count = 0;
        Find("GPU driver", () =>
        {
            driver = loadDriver();
            count = CudaDevice.CountDevices(driver);
            return driver.DriverGetVersion(out int version) == CudaResult.Success ? $"for CUDA {version / 1000}.{version % 1000 / 10}" : "";
        });
        if (driver is null || findings[^1].Missing is not null)
        {
            return findings;
        }

        if (count == 0)
        {
            findings.Add(new CudaFinding("GPU", null, "The NVIDIA driver is installed but reports no GPU: check CUDA_VISIBLE_DEVICES and whether nvidia-smi lists one."));
        }

        for (int i = 0; i < count; i++)
        {
            int ordinal = i;
            Find("GPU", () => Describe(driver, ordinal));
        }

        Find("kernel compiler", () => compiler.Version);
        Find("kernel cache", () => $"{cache.Folder}, {cache.RequireWritable():N0} kernel files");
        if (count > 0)
        {
            Find("kernels", () => Try(driver, device => new PlainProducts(device)));
            Find("matrix products", () => Try(driver, device => loadProducts(driver) ?? new CublasLtProducts(device)));
        }

        return findings;
    }

    private static string Describe(ICudaDriver driver, int ordinal)
    {
        using var device = new CudaDevice(driver, ordinal);
        return $"{device.Name}: {device.ModelName}, {device.TotalBytes / (double)(1L << 30):0.0} GiB, {device.MultiprocessorCount} multiprocessors, compute capability {device.ComputeCapability}";
    }

    private void Find(string what, Func<string> examine)
    {
        try
        {
            findings.Add(new CudaFinding(what, examine(), null));
        }
        catch (Exception exception) when (exception is InvalidInputException or CudaException or OutOfMemoryException)
        {
            findings.Add(new CudaFinding(what, null, exception.Message));
        }
    }

    /// <summary>Multiplies two small matrices on the first GPU and looks at the result.</summary>
    private string Try(ICudaDriver driver, Func<CudaDevice, IMatrixProducts> open)
    {
        const int Size = 16;
        long start = Stopwatch.GetTimestamp();
        using var device = new CudaDevice(driver, 0, compiler, cache);
        using IMatrixProducts products = open(device);
        using Tensor a = device.Persistent([Size, Size]), b = device.Persistent([Size, Size]), c = device.Persistent([Size, Size]);
        float[] left = [.. Enumerable.Range(0, Size * Size).Select(i => (float)(i % 7))], right = [.. Enumerable.Range(0, Size * Size).Select(i => (float)(i % 5))];
        a.CopyFrom<float>(left);
        b.CopyFrom<float>(right);
        MatrixOperand Operand(Tensor tensor) => new(tensor.Address, DType.Float32, Size);
        products.Multiply(new MatrixProduct { Rows = Size, Columns = Size, Depth = Size, A = Operand(a), B = Operand(b), C = Operand(c) }, device.Stream);
        float[] product = c.ToHost<float>();
        for (int i = 0; i < product.Length; i++)
        {
            float expected = Enumerable.Range(0, Size).Sum(k => left[(i / Size * Size) + k] * right[(k * Size) + (i % Size)]);
            if (product[i] != expected)
            {
                throw new InvalidInputException($"A small matrix product on {device.Name} gave {product[i]} where {expected} is right: the GPU or its driver is damaged, use --device cpu.");
            }
        }

        return $"a product was right, {Stopwatch.GetElapsedTime(start).TotalSeconds:0.00} s after opening the device";
    }
}
