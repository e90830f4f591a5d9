using System.Runtime.InteropServices;
using ExactFlow.Tensors;

namespace ExactFlow.Cuda;

/// <summary>
/// Matrix products through cuBLASLt. The library is asked for algorithms once per shape; for a large product they are measured, once on a machine
/// (<see cref="ProductChoices"/>), for its first proposal can be a sixth slower than its best. A product seen before is one call that allocates nothing and can be
/// captured. Algorithms whose sums depend on timing are excluded. What the library has no algorithm for (sums of no terms, some shapes with a bias) goes to
/// <see cref="PlainProducts"/>.
/// </summary>
public sealed unsafe class CublasLtProducts : IMatrixProducts
{
    /// <summary>What NVIDIA recommends for Hopper; earlier architectures need less.</summary>
    private const long WorkspaceBytes = 32L << 20;

    /// <summary>Products of more operations than this (a millisecond or so for the plain kernel) are not left to it.</summary>
    private const double MostPlainOperations = 1e9;

    /// <summary>Algorithms of a large product that are measured; more than the library proposes.</summary>
    private const int MostCandidates = 16;

    private readonly CudaDevice device;
    private readonly ProductChoices choices;
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
        choices = new ProductChoices(Path.Combine(device.Kernels.CacheFolder, "products"), $"{device.ModelName}, {device.MultiprocessorCount} multiprocessors, cuBLASLt {CublasLtImports.GetVersion()}");
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
            if (plan is not null && ProductChoices.Takes(key))
            {
                Choose(plan, key, product, stream);
            }
        }

        if (plan is null)
        {
            plain.Multiply(product, stream);
            return;
        }

        Check(Run(plan, plan.Heuristic, product, product.C.Address, stream), "cublasLtMatmul", key);
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

    private void Check(int status, string call, in CublasLtKey key)
    {
        if (status != 0)
        {
            Check(status, call, key.ToString());
        }
    }

    /// <summary>Queues a product with one of its algorithms; <paramref name="result"/> is C, or memory of its shape that takes the result in its place.</summary>
    private int Run(CublasLtPlan plan, CublasLtImports.Heuristic algorithm, in MatrixProduct product, nint result, nint stream)
    {
        plan.SetBias(product.Bias, this);
        float alpha = product.Alpha, beta = product.Accumulate ? 1 : 0;

        // Row-major C = A B is, read column by column, C^T = B^T A^T: the operands change places, nothing is transposed.
        return CublasLtImports.Multiply(
            handle, plan.Product, &alpha, product.B.Address, plan.LayoutB, product.A.Address, plan.LayoutA, &beta, product.C.Address, plan.LayoutC,
            result, plan.LayoutC, algorithm.Algorithm, workspace, algorithm.WorkspaceBytes, stream);
    }

    /// <summary>Uses the algorithm that was the fastest when this machine measured, or measures now. What cannot be kept is not used, so that the next process adds in the same order.</summary>
    private void Choose(CublasLtPlan plan, in CublasLtKey key, in MatrixProduct product, nint stream)
    {
        if (choices.Find(key) is { } saved)
        {
            if (plan.TryChoose(handle, saved, WorkspaceBytes))
            {
                return;
            }

            choices.Forget(key);
        }

        if (device.IsCapturing || plan.Candidates.Length == 1)
        {
            return;
        }

        plan.Choose(Fastest(plan, key, product, stream));
        byte[] choice = plan.Save();
        if (!(choices.TryKeep(key, ref choice) && plan.TryChoose(handle, choice, WorkspaceBytes)))
        {
            plan.Choose(0);
        }
    }

    /// <summary>Measures all algorithms of a product on its operands. C stays as it is where the product adds to it.</summary>
    private int Fastest(CublasLtPlan plan, in CublasLtKey key, MatrixProduct product, nint stream)
    {
        nint result = product.C.Address, scratch = 0;
        try
        {
            if (product.Accumulate)
            {
                long elements = ((product.Batches - 1) * product.C.BatchStride) + (product.Rows * product.C.Stride);
                result = scratch = device.AllocateOutsideThePool(elements * product.C.Type.Size());
            }

            using var timer = new CudaTimer(device);
            return FastestCandidate.Of(
                plan.Candidates.Length,
                key.Operations,
                candidate => Run(plan, plan.Candidates[candidate], product, result, stream) == 0,
                work =>
                {
                    timer.Start();
                    work();
                    timer.Stop();
                    return timer.WaitForElapsed();
                });
        }
        catch (OutOfMemoryException)
        {
            return 0;
        }
        finally
        {
            if (scratch != 0)
            {
                device.Check(device.Driver.MemFreeAsync(scratch, device.Stream), "cuMemFreeAsync", "scratch of a measured product");
            }
        }
    }

    /// <summary>The library's ways to make a product, or null for a small one that it has none for.</summary>
    private CublasLtPlan? Plan(in CublasLtKey key, nint bias)
    {
        CublasLtPlan? plan = CublasLtPlan.TryMake(handle, key, bias, WorkspaceBytes, ProductChoices.Takes(key) ? MostCandidates : 1, this, out int status);
        if (plan is null && key.Operations > MostPlainOperations)
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
