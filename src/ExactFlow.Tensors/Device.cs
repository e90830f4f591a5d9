using ExactFlow.Tensors.Autograd;
using ExactFlow.Tensors.Memory;

namespace ExactFlow.Tensors;

/// <summary>
/// Where tensors live and operators run. A device owns its memory pool and at most one open <see cref="Step"/>.
/// A device is used by one thread at a time; independent devices are independent.
/// </summary>
public abstract class Device : IDisposable
{
    private readonly Step step;
    private bool isDisposed;

    /// <summary>Sets up the pool and the (closed) step.</summary>
    protected Device()
    {
        Pool = new BufferPool(this);
        step = new Step(this);
    }

    /// <summary>A name as given to <c>--device</c>: <c>cpu</c>, <c>cuda:0</c>.</summary>
    public abstract string Name { get; }

    /// <summary>The pool all memory of this device comes from, with its statistics.</summary>
    public BufferPool Pool { get; }

    /// <summary>The open step, or null.</summary>
    public Step? CurrentStep => step.IsOpen ? step : null;

    /// <summary>Bytes that the device has free, for messages; null where the system does not say.</summary>
    public virtual long? FreeBytes => null;

    /// <summary>Fills fresh memory with NaN (all bits set) so that reading what was never written shows. For tests; off by default.</summary>
    public bool PoisonFreshMemory { get; set; }

    /// <summary>Opens a step: tensors made until it is disposed return their memory then, unless <see cref="Step.Keep"/> was called.</summary>
    /// <param name="recordGradients">Whether operators record themselves for <see cref="Tensor.Backward"/>.</param>
    /// <exception cref="InvalidOperationException">A step is open already.</exception>
    public Step BeginStep(bool recordGradients = true)
    {
        step.Open(recordGradients);
        return step;
    }

    /// <summary>A tensor of the open step; its contents are undefined.</summary>
    /// <exception cref="InvalidOperationException">No step is open.</exception>
    public Tensor Empty(Shape shape, DType type = DType.Float32)
    {
        if (!step.IsOpen)
        {
            throw new InvalidOperationException($"A temporary tensor {shape} was asked for while no step is open on {Name}: wrap the computation in `using var step = device.BeginStep()`.");
        }

        var tensor = new Tensor(this, Pool.Rent(shape.Count * type.Size()), shape, type, isPersistent: false);
        step.Adopt(tensor);
        return tensor;
    }

    /// <summary>A tensor of the open step, filled with zeros.</summary>
    public Tensor Zeros(Shape shape, DType type = DType.Float32)
    {
        Tensor tensor = Empty(shape, type);
        Zero(tensor.Address, tensor.ByteCount);
        return tensor;
    }

    /// <summary>A tensor that outlives steps (parameters, carried states), filled with zeros; its owner disposes it.</summary>
    public Tensor Persistent(Shape shape, DType type = DType.Float32)
    {
        Tensor tensor = PersistentEmpty(shape, type);
        try
        {
            Zero(tensor.Address, tensor.ByteCount);
        }
        catch
        {
            tensor.Dispose();
            throw;
        }

        return tensor;
    }

    /// <summary>A tensor that outlives steps and whose contents are undefined, for values that are written whole next; its owner disposes it.</summary>
    public Tensor PersistentEmpty(Shape shape, DType type = DType.Float32) => new(this, Pool.Rent(shape.Count * type.Size()), shape, type, isPersistent: true);

    /// <summary>A tensor of the open step holding <paramref name="values"/>, row-major.</summary>
    public Tensor From<T>(ReadOnlySpan<T> values, Shape shape)
        where T : unmanaged
    {
        Tensor tensor = Empty(shape, DTypeExtensions.Of<T>());
        tensor.CopyFrom(values);
        return tensor;
    }

    /// <summary>Waits until all work queued on the device is done.</summary>
    public abstract void Synchronize();

    /// <inheritdoc/>
    public void Dispose()
    {
        if (isDisposed)
        {
            return;
        }

        isDisposed = true;
        if (step.IsOpen)
        {
            step.Dispose();
        }

        GC.SuppressFinalize(this);
        try
        {
            Pool.Dispose();
        }
        finally
        {
            Dispose(true);
        }
    }

    /// <summary>Takes memory from the system, aligned to at least 64 bytes.</summary>
    /// <exception cref="OutOfMemoryException">The system has no more.</exception>
    protected internal abstract nint AllocateNative(long bytes);

    /// <summary>Gives memory back to the system.</summary>
    protected internal abstract void FreeNative(nint address, long bytes);

    /// <summary>Fills memory of the device with a byte.</summary>
    protected internal abstract void Fill(nint address, long bytes, byte value);

    /// <summary>Copies from host memory to the device.</summary>
    protected internal abstract void Upload(ReadOnlySpan<byte> source, nint destination);

    /// <summary>Copies from the device to host memory and waits for it.</summary>
    protected internal abstract void Download(nint source, Span<byte> destination);

    /// <summary>Copies between places on the device.</summary>
    protected internal abstract void Copy(nint source, nint destination, long bytes);

    /// <summary>Releases what the derived device holds besides the pool, which has given its memory back by then.</summary>
    protected virtual void Dispose(bool disposing)
    {
    }

    private void Zero(nint address, long bytes) => Fill(address, bytes, 0);
}
