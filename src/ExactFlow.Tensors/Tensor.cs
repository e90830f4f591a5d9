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
    private GradientSlot? gradient;
    private long byteOffset;
    private bool isGradient;
    private bool isPersistent;
    private bool sharesGradient;

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

    /// <summary>Whether operators that read it should produce its gradient.</summary>
    public bool RequiresGrad => gradient is not null;

    /// <summary>The gradient of the loss with respect to it, of its own shape, or null as long as nobody wrote one.</summary>
    public Tensor? Grad
    {
        get
        {
            WriteOne();
            return gradient is { IsWritten: true, Value: not null } slot ? InShape(slot, Shape) : null;
        }
    }

    /// <summary>Whether a gradient was written.</summary>
    internal bool HasGrad => gradient is { IsWritten: true };

    /// <summary>Whether it is the gradient of a tensor and was not used up.</summary>
    internal bool IsLiveGradient => isGradient && buffer is not null;

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

    /// <summary>Asks operators to produce its gradient from now on. Returns the tensor.</summary>
    public Tensor RequireGrad()
    {
        gradient ??= new GradientSlot { Shape = Shape, Type = DType, IsPersistent = isPersistent };
        return this;
    }

    /// <summary>
    /// A persistent tensor of this shape in another number format, for computing with a rounded copy of this one. Its gradient is this tensor's
    /// gradient, in the format of this tensor: operators that read the copy write there. The values are for the caller to fill in and to keep in step.
    /// </summary>
    /// <exception cref="InvalidOperationException">This tensor belongs to a step.</exception>
    public Tensor WorkingCopy(DType type)
    {
        if (!isPersistent)
        {
            throw new InvalidOperationException($"A working copy was asked for of a tensor {Shape} that ends with its step; only persistent ones have copies.");
        }

        Tensor copy = Device.Persistent(Shape, type);
        copy.gradient = gradient;
        copy.sharesGradient = true;
        return copy;
    }

    /// <summary>
    /// The tensor to write the gradient to, in this tensor's number format, or its master's when it is a <see cref="WorkingCopy"/>. On the first call since
    /// it was cleared its contents are undefined and must be overwritten (<paramref name="accumulate"/> false), afterwards they must be added to.
    /// </summary>
    public Tensor GradForWrite(out bool accumulate)
    {
        GradientSlot slot = RequiredSlot();
        WriteOne();
        if (slot is { IsAdopted: true, Value: { } adopted } && adopted.buffer!.GradientOwners > 1)
        {
            Separate(slot, adopted);
        }

        slot.Value ??= slot.IsPersistent ? Device.Persistent(slot.Shape, slot.Type) : EmptyGradient(slot);
        accumulate = slot.IsWritten;
        slot.IsWritten = true;
        return InShape(slot, Shape);
    }

    /// <summary>
    /// Makes a finished tensor of the step the gradient of this one, without a copy: the first gradient that arrives, when this tensor is of the step too.
    /// False, with nothing changed, when it must be copied or added through <see cref="GradForWrite"/> instead.
    /// </summary>
    /// <param name="computed">
    /// Of this tensor's shape. Its memory belongs to the gradient from now on, so nobody else may write there. Several tensors may adopt the same one, as
    /// the terms of a sum do: it is copied only when one of them is added to while others still hold it.
    /// </param>
    public bool TryAdoptGrad(Tensor computed)
    {
        ArgumentNullException.ThrowIfNull(computed);
        if (gradient is not { IsPersistent: false, Value: null, IsOne: false } slot || computed.isPersistent || computed.DType != slot.Type || computed.Count != slot.Shape.Count)
        {
            return false;
        }

        // A view, which holds the memory when the gradient it came from is released.
        slot.Value = computed.View(slot.Shape, computed.byteOffset, null);
        slot.Value.isGradient = true;
        slot.Value.buffer!.GradientOwners++;
        slot.IsAdopted = true;
        slot.IsWritten = true;
        return true;
    }

    /// <summary>Forgets the gradient; the next write overwrites it.</summary>
    public void ClearGrad()
    {
        if (gradient is not null)
        {
            gradient.IsWritten = false;
            gradient.IsOne = false;
        }
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

    internal void ReleaseGrad()
    {
        if (gradient is not { } slot || isPersistent)
        {
            return;
        }

        if (slot.IsOne)
        {
            ClearGrad();
        }

        if (slot.Value is { } value)
        {
            slot.IsWritten = false;
            slot.Value = null;
            Disown(slot, value);
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

    /// <summary>Makes the gradient of this tensor that of another one in its place, which nobody has written to yet.</summary>
    internal void MoveGradTo(Tensor other)
    {
        WriteOne();
        if (gradient is { Value: not null } from && other.gradient is { Value: null } to)
        {
            (to.Value, to.IsWritten, to.IsAdopted) = (from.Value, from.IsWritten, from.IsAdopted);
            (from.Value, from.IsWritten, from.IsAdopted) = (null, false, false);
            EndReshaped(from);
        }
    }

    private Tensor EmptyGradient(GradientSlot slot)
    {
        Tensor empty = Device.Empty(slot.Shape, slot.Type);
        empty.isGradient = true;
        return empty;
    }

    /// <summary>Gives a slot memory of its own in the place of what it shares with other gradients.</summary>
    private void Separate(GradientSlot slot, Tensor shared)
    {
        slot.Value = EmptyGradient(slot);
        if (slot.IsWritten)
        {
            slot.Value.CopyFrom(shared);
        }

        Disown(slot, shared);
    }

    /// <summary>The gradient in the shape of whoever asks. The view of a step's gradient is kept and ends with it, so that it holds no memory beyond that.</summary>
    private static Tensor InShape(GradientSlot slot, Shape shape)
    {
        Tensor value = slot.Value!;
        if (value.Shape == shape)
        {
            return value;
        }

        if (slot.IsPersistent)
        {
            return value.View(shape);
        }

        // A view made in a part of the step that is over has ended with it.
        if (slot.Reshaped is not { buffer: not null } known || known.Shape != shape)
        {
            slot.Reshaped = value.View(shape);
        }

        return slot.Reshaped!;
    }

    private static void EndReshaped(GradientSlot slot)
    {
        slot.Reshaped?.ReleaseBuffer();
        slot.Reshaped = null;
    }

    private static void Disown(GradientSlot slot, Tensor value)
    {
        EndReshaped(slot);
        if (slot.IsAdopted)
        {
            slot.IsAdopted = false;
            value.buffer!.GradientOwners--;
        }

        value.ReleaseBuffer();
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

    /// <summary>The gradient of a tensor, shared by its views.</summary>
    private sealed class GradientSlot
    {
        /// <summary>The gradient in the shape of the tensor that asked for it, or null until it is first written.</summary>
        public Tensor? Value;

        /// <summary><see cref="Value"/> in another shape that was asked for last.</summary>
        public Tensor? Reshaped;

        /// <summary>Whether <see cref="Value"/> holds a gradient, and not only memory.</summary>
        public bool IsWritten;

        /// <summary>Whether <see cref="Value"/> came from elsewhere, and others may hold its memory as their gradient too.</summary>
        public bool IsAdopted;

        /// <summary>Whether the gradient is 1 and stands in no memory yet; see <see cref="GradIsOne"/>.</summary>
        public bool IsOne;

        /// <summary>Shape of the tensor that asked for the gradient.</summary>
        public Shape Shape;

        /// <summary>Number format of the gradient: that of the tensor that asked for it.</summary>
        public DType Type;

        /// <summary>Whether the gradient outlives steps: that of a parameter does, whichever view of it is written first.</summary>
        public bool IsPersistent;
    }
}
