using System.Runtime.InteropServices;
using ExactFlow.Tensors.Parallel;

namespace ExactFlow.Tensors;

/// <summary>The processor: float32 tensors in native memory aligned to cache lines, operators parallel over <see cref="Workers"/>.</summary>
public sealed unsafe class CpuDevice : Device
{
    private const nuint Alignment = 64;

    /// <summary>Makes a CPU device with its own memory pool and workers.</summary>
    /// <param name="threads">Threads that share the work, or 0 for one per logical processor.</param>
    public CpuDevice(int threads = 0)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(threads);
        Workers = new WorkerPool(threads == 0 ? Environment.ProcessorCount : threads);
    }

    /// <inheritdoc/>
    public override string Name => "cpu";

    /// <summary>The threads that operators run on.</summary>
    public WorkerPool Workers { get; }

    /// <inheritdoc/>
    public override void Synchronize()
    {
    }

    /// <inheritdoc/>
    protected internal override nint AllocateNative(long bytes) => (nint)NativeMemory.AlignedAlloc(checked((nuint)bytes), Alignment);

    /// <inheritdoc/>
    protected internal override void FreeNative(nint address, long bytes) => NativeMemory.AlignedFree((void*)address);

    /// <inheritdoc/>
    protected internal override void Fill(nint address, long bytes, byte value) => NativeMemory.Fill((void*)address, checked((nuint)bytes), value);

    /// <inheritdoc/>
    protected internal override void Upload(ReadOnlySpan<byte> source, nint destination) => source.CopyTo(new Span<byte>((void*)destination, source.Length));

    /// <inheritdoc/>
    protected internal override void Download(nint source, Span<byte> destination) => new ReadOnlySpan<byte>((void*)source, destination.Length).CopyTo(destination);

    /// <inheritdoc/>
    protected internal override void Copy(nint source, nint destination, long bytes) => Buffer.MemoryCopy((void*)source, (void*)destination, bytes, bytes);

    /// <inheritdoc/>
    protected override void Dispose(bool disposing) => Workers.Dispose();
}
