using System.Runtime.InteropServices;
using ExactFlow.Tensors;

namespace ExactFlow.Cuda;

/// <summary>
/// Matrix products through cuBLASLt. The library's choice of algorithm is asked once per shape and kept, so a product seen before is one call that
/// allocates nothing and can be captured. Algorithms whose sums depend on timing are excluded. What the library has no algorithm for
/// (sums of no terms, some shapes with a bias) goes to <see cref="PlainProducts"/>.
/// </summary>
public sealed unsafe class CublasLtProducts : IMatrixProducts
{
    /// <summary>What NVIDIA recommends for Hopper; earlier architectures need less.</summary>
    private const long WorkspaceBytes = 32L << 20;

    /// <summary>Products of more operations than this (a millisecond or so for the plain kernel) are not left to it.</summary>
    private const double MostPlainOperations = 1e9;

    private readonly CudaDevice device;
    private readonly Dictionary<CublasLtKey, CublasLtPlan?> plans = [];
    private readonly PlainProducts plain;
    private nint handle;
    private nint workspace;

    /// <summary>Loads the library and takes its workspace from the device.</summary>
    /// <param name="device">The device the products run on.</param>
    /// <exception cref="InvalidInputException">The library is not installed, or does not start with this driver.</exception>
    /// <exception cref="CudaException">The device has no room for the workspace.</exception>
    public CublasLtProducts(CudaDevice device)
    {
        ArgumentNullException.ThrowIfNull(device);
        this.device = device;
        plain = new PlainProducts(device);
        CudaLibrary.CublasLt.Load(device.Name);
        device.UseOnThisThread();
        int status = CublasLtImports.Create(out handle);
        if (status != 0)
        {
            throw new InvalidInputException(
                $"Multiplying matrices on {device.Name} needs cuBLASLt to start, but version {Version()} reports {NameOf(status)}: install the CUDA toolkit that fits the driver, set {CudaLibrary.CublasLt.OverrideVariable} to its library, or use --device cpu.");
        }

        CudaResult result = device.Driver.MemAllocAsync(out workspace, (nuint)WorkspaceBytes, device.Stream);
        if (result != CudaResult.Success)
        {
            _ = CublasLtImports.Destroy(handle);
            device.Check(result, "cuMemAllocAsync", $"{WorkspaceBytes:N0} bytes of workspace for matrix products");
        }
    }

    /// <inheritdoc/>
    public void Multiply(in MatrixProduct product, nint stream)
    {
        ObjectDisposedException.ThrowIf(handle == 0, this);
        if (product.Rows == 0 || product.Columns == 0 || product.Batches == 0)
        {
            return;
        }

        if (AlignedParts.TrySplit(product, out MatrixProduct aligned, out MatrixProduct rest))
        {
            Multiply(aligned, stream);
            Multiply(rest, stream);
            return;
        }

        var key = CublasLtKey.Of(product);
        if (!plans.TryGetValue(key, out CublasLtPlan? plan))
        {
            plan = product.Depth == 0 ? null : Plan(key, product.Bias);
            plans.Add(key, plan);
        }

        if (plan is null)
        {
            plain.Multiply(product, stream);
            return;
        }

        plan.SetBias(product.Bias, this);
        float alpha = product.Alpha, beta = product.Accumulate ? 1 : 0;

        // Row-major C = A B is, read column by column, C^T = B^T A^T: the operands change places, nothing is transposed.
        CublasLtImports.Heuristic heuristic = plan.Heuristic;
        int status = CublasLtImports.Multiply(
            handle, plan.Product, &alpha, product.B.Address, plan.LayoutB, product.A.Address, plan.LayoutA, &beta, product.C.Address, plan.LayoutC,
            product.C.Address, plan.LayoutC, heuristic.Algorithm, workspace, heuristic.WorkspaceBytes, stream);
        if (status != 0)
        {
            Check(status, "cublasLtMatmul", key.ToString());
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (handle == 0)
        {
            return;
        }

        foreach (CublasLtPlan? plan in plans.Values)
        {
            plan?.Dispose();
        }

        plans.Clear();
        nint released = handle;
        handle = 0;
        device.UseOnThisThread();
        CudaResult freed = device.Driver.MemFreeAsync(workspace, device.Stream);
        Check(CublasLtImports.Destroy(released), "cublasLtDestroy", "at the end");
        device.Check(freed, "cuMemFreeAsync", "workspace for matrix products");
    }

    /// <summary>Throws unless a call succeeded.</summary>
    internal void Check(int status, string call, string subject)
    {
        if (status != 0)
        {
            throw new CudaException(call, CudaResult.Unknown, $"{call} failed on {device.Name} ({device.ModelName}; {subject}) with {NameOf(status)}.");
        }
    }

    /// <summary>The library's way to make a product, or null for a small one that it has none for.</summary>
    private CublasLtPlan? Plan(in CublasLtKey key, nint bias)
    {
        CublasLtPlan? plan = CublasLtPlan.TryMake(handle, key, bias, WorkspaceBytes, this, out int status);
        if (plan is null && 2.0 * key.Rows * key.Columns * key.Depth * key.Batches > MostPlainOperations)
        {
            const int NotSupported = 15;
            Check(status == 0 ? NotSupported : status, "cublasLtMatmulAlgoGetHeuristic", key.ToString());
        }

        return plan;
    }

    private static string NameOf(int status) => Marshal.PtrToStringUTF8(CublasLtImports.GetStatusName(status)) ?? $"status {status}";

    /// <summary>Such as 13.2.1: 10000 major + 100 minor + patch in the library's own counting.</summary>
    private static string Version()
    {
        nuint version = CublasLtImports.GetVersion();
        return $"{version / 10_000}.{version / 100 % 100}.{version % 100}";
    }
}
