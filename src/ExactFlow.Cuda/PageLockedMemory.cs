using System.Numerics;

namespace ExactFlow.Cuda;

/// <summary>
/// Page-locked host memory of a device, for results on their way to the host. Taking it and giving it back make the driver wait for the whole GPU, other
/// devices' work included, so blocks that are returned are kept until the device ends, and used again.
/// </summary>
internal sealed class PageLockedMemory
{
    /// <summary>The smallest block: a page.</summary>
    private const int Smallest = 4096;

    private readonly CudaDevice device;
    private readonly List<PageLockedBlock> free = [];

    internal PageLockedMemory(CudaDevice device) => this.device = device;

    /// <summary>A block of at least so many bytes, undefined in content.</summary>
    /// <exception cref="CudaException">There is none, and the driver gives none.</exception>
    public PageLockedBlock Rent(long bytes)
    {
        int fitting = free.FindIndex(block => block.Bytes >= bytes);
        if (fitting >= 0)
        {
            PageLockedBlock known = free[fitting];
            free.RemoveAt(fitting);
            return known;
        }

        long size = (long)BitOperations.RoundUpToPowerOf2((ulong)Math.Max(bytes, Smallest));
        using Lock.Scope alone = CudaDevice.OneAtATime.EnterScope();
        device.UseOnThisThread();
        device.Check(device.Driver.MemHostAlloc(out nint address, (nuint)size), "cuMemHostAlloc", $"{size:N0} bytes");
        return new PageLockedBlock(address, size);
    }

    /// <summary>Takes a block back that nothing writes to any more.</summary>
    public void Return(PageLockedBlock block) => free.Add(block);

    /// <summary>Gives all blocks to the driver, with its answer to the first that it did not take.</summary>
    internal CudaResult Free()
    {
        CudaResult result = CudaResult.Success;
        foreach (PageLockedBlock block in free)
        {
            CudaResult freed = device.Driver.MemFreeHost(block.Address);
            result = result == CudaResult.Success ? freed : result;
        }

        free.Clear();
        return result;
    }
}

/// <summary>Page-locked memory.</summary>
/// <param name="Address">The first byte.</param>
/// <param name="Bytes">How many.</param>
internal readonly record struct PageLockedBlock(nint Address, long Bytes);
