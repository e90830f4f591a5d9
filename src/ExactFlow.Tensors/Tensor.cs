using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using ExactFlow.Tensors.Autograd;
using ExactFlow.Tensors.Memory;

namespace ExactFlow.Tensors;

/// <summary>
/// A dense row-major array on a device. Always contiguous: operators that would stride copy instead.
/// Tensors of a step end with it; persistent ones (<see cref="Device.Persistent"/>, <see cref="Step.Keep"/>) end with <see cref="Dispose"/>.
/// </summary>
public sealed unsafe partial class Tensor : IDisposable
{
    private DeviceBuffer? buffer;
    private long byteOffset;
    private bool isPersistent;

    internal Tensor(Device device, DeviceBuffer buffer, Shape shape, DType type, bool isPersistent, long byteOffset = 0)
    {
        Device = device;
        this.buffer = buffer;
        this.byteOffset = byteOffset;
        this.isPersistent = isPersistent;
        Shape = shape;
        DType = type;
    }

    /// <summary>The device it lives on.</summary>
    public Device Device { get; }

    /// <summary>Its extents.</summary>
    public Shape Shape { get; }

    /// <summary>Its number format.</summary>
    public DType DType { get; }

    /// <summary>Number of elements.</summary>
    public long Count => Shape.Count;

    /// <summary>Bytes of all elements.</summary>
    public long ByteCount => Count * DType.Size();

    /// <summary>Address of the first element on its device.</summary>
    /// <exception cref="ObjectDisposedException">Its step has ended, or it was disposed.</exception>
    public nint Address => (buffer ?? throw Ended()).Address + (nint)byteOffset;

    /// <summary>Elements in host memory, as a pointer for kernels; only on the CPU.</summary>
    public float* Floats
    {
        get
        {
            RequireHost<float>();
            return (float*)Address;
        }
    }

    /// <summary>Elements in host memory as a span; only on the CPU.</summary>
    /// <typeparam name="T">The storage type of <see cref="DType"/>: float, double, int, or ushort for bfloat16.</typeparam>
    public Span<T> Span<T>()
        where T : unmanaged
    {
        RequireHost<T>();
        return new Span<T>((void*)Address, checked((int)Count));
    }

    /// <summary>The same elements under another shape of equal count. Gradients are shared too, and nothing is recorded.</summary>
    /// <exception cref="InvalidInputException">The counts differ.</exception>
    public Tensor Reshape(Shape shape)
    {
        if (shape.Count != Count)
        {
            throw new InvalidInputException($"A tensor {Shape} of {Count} elements cannot be seen as {shape}, which has {shape.Count}.");
        }

        return shape == Shape ? this : View(shape);
    }

    /// <summary>
    /// Entries [<paramref name="start"/>, <paramref name="start"/> + <paramref name="count"/>) of the outermost dimension, sharing memory.
    /// Has no gradient: for states, caches and results that are only read.
    /// </summary>
    /// <exception cref="InvalidInputException">The range reaches outside the dimension.</exception>
    public Tensor Slice(int start, int count)
    {
        int extent = Shape.Rank == 0 ? 0 : Shape[0];
        if (start < 0 || count < 0 || start > extent - count)
        {
            throw new InvalidInputException($"Entries [{start}, {start + (long)count}) were asked of a tensor {Shape}, whose outermost dimension has {extent}.");
        }

        Shape shape = Shape.WithFirst(count);
        long row = extent == 0 ? 0 : ByteCount / extent;
        return View(shape, byteOffset + (start * row), null);
    }

    /// <summary>Copies host values in, row-major.</summary>
    public void CopyFrom<T>(ReadOnlySpan<T> values)
        where T : unmanaged
    {
        if (values.Length != Count || DTypeExtensions.Of<T>() != DType)
        {
            throw new InvalidInputException($"{values.Length} values of {typeof(T).Name} were copied into a tensor {Shape} of {DType}; count and type must match.");
        }

        Device.Upload(MemoryMarshal.AsBytes(values), Address);
    }

    /// <summary>Copies host values to a range of elements, row-major from element <paramref name="start"/> on: for what is too large for one array.</summary>
    /// <exception cref="InvalidInputException">The range reaches outside the tensor, or the type differs.</exception>
    public void CopyFrom<T>(ReadOnlySpan<T> values, long start)
        where T : unmanaged
    {
        RequireRange<T>(start, values.Length);
        Device.Upload(MemoryMarshal.AsBytes(values), Address + (nint)(start * DType.Size()));
    }

    /// <summary>Copies another tensor of the same device, shape and dtype in.</summary>
    public void CopyFrom(Tensor source)
    {
        ArgumentNullException.ThrowIfNull(source);
        if (source.Count != Count || source.DType != DType || source.Device != Device)
        {
            throw new InvalidInputException($"A tensor {source.Shape} of {source.DType} was copied into {Shape} of {DType}; device, count and type must match.");
        }

        Device.Copy(source.Address, Address, ByteCount);
    }

    /// <summary>Sets all elements to zero.</summary>
    public void Zero() => Device.Fill(Address, ByteCount, 0);

    /// <summary>Copies the elements to the host, waiting for the device.</summary>
    public T[] ToHost<T>()
        where T : unmanaged
    {
        var result = new T[Count];
        CopyTo<T>(result);
        return result;
    }

    /// <summary>Copies the elements to host memory, waiting for the device.</summary>
    public void CopyTo<T>(Span<T> destination)
        where T : unmanaged
    {
        if (destination.Length != Count || DTypeExtensions.Of<T>() != DType)
        {
            throw new InvalidInputException($"A tensor {Shape} of {DType} was copied to {destination.Length} values of {typeof(T).Name}; count and type must match.");
        }

        Device.Download(Address, MemoryMarshal.AsBytes(destination));
    }

    /// <summary>Copies a range of elements, row-major from element <paramref name="start"/> on, to host memory, waiting for the device.</summary>
    /// <exception cref="InvalidInputException">The range reaches outside the tensor, or the type differs.</exception>
    public void CopyTo<T>(Span<T> destination, long start)
        where T : unmanaged
    {
        RequireRange<T>(start, destination.Length);
        Device.Download(Address + (nint)(start * DType.Size()), MemoryMarshal.AsBytes(destination));
    }

    /// <summary>The value of a float32 scalar, waiting for the device.</summary>
    public float Item()
    {
        Span<float> value = stackalloc float[1];
        CopyTo(value);
        return value[0];
    }

    /// <summary>Gives the memory back now: at once for a persistent tensor, a hint that is never wrong for one of a step.</summary>
    public void Dispose()
    {
        if (gradient is { Value: { } value } && isPersistent && !sharesGradient)
        {
            gradient.Value = null;
            gradient.IsWritten = false;
            value.Dispose();
        }

        ReleaseBuffer();
    }

    /// <inheritdoc/>
    public override string ToString() => $"Tensor {Shape} {DType} on {Device.Name}";

    internal void MakePersistent()
    {
        isPersistent = true;
        if (gradient is not null)
        {
            gradient.IsPersistent = true;
        }
    }

    internal void EndOfStep()
    {
        if (!isPersistent)
        {
            ReleaseBuffer();
        }
    }

    /// <summary>Gives up the memory of a result that will be computed again.</summary>
    internal void ReleaseSole()
    {
        if (buffer is not { References: 1 })
        {
            throw new InvalidOperationException($"A result {Shape} was to be computed again instead of kept, but its memory is shared with a view of it, or gone: read it as it is.");
        }

        ReleaseBuffer();
    }

    /// <summary>Takes the memory of an equal tensor in the place of what was given up.</summary>
    internal void ShareMemoryOf(Tensor other)
    {
        buffer = other.buffer ?? throw other.Ended();
        buffer.References++;
        byteOffset = other.byteOffset;
    }

    private Tensor View(Shape shape) => View(shape, byteOffset, gradient);

    private Tensor View(Shape shape, long offset, GradientSlot? slot)
    {
        DeviceBuffer shared = buffer ?? throw Ended();
        shared.References++;
        var view = new Tensor(Device, shared, shape, DType, isPersistent: false, offset) { gradient = slot };
        if (Device.CurrentStep is { } step)
        {
            step.Adopt(view);
        }
        else
        {
            view.isPersistent = true;
        }

        return view;
    }

    private void ReleaseBuffer()
    {
        if (buffer is { } held)
        {
            buffer = null;
            if (--held.References == 0)
            {
                Device.Pool.Return(held);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void RequireHost<T>()
        where T : unmanaged
    {
        if (Device is not CpuDevice || DTypeExtensions.Of<T>() != DType)
        {
            throw new InvalidOperationException($"{this} was read as {typeof(T).Name} in host memory; use ToHost to copy it, with its own type.");
        }
    }

    private void RequireRange<T>(long start, int length)
        where T : unmanaged
    {
        if (start < 0 || start > Count - length || DTypeExtensions.Of<T>() != DType)
        {
            throw new InvalidInputException($"Elements [{start}, {start + length}) of a tensor {Shape} of {DType} were copied as {typeof(T).Name}; the range must lie inside it and the type must match.");
        }
    }

    private ObjectDisposedException Ended() => new(nameof(Tensor), $"A tensor {Shape} was used after its step ended; use Step.Keep for what must live longer.");
}
