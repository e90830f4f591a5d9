namespace ExactFlow.Tensors;

/// <content>Gradients: where they lie, who writes them, and what shares them.</content>
public sealed partial class Tensor
{
    private GradientSlot? gradient;
    private bool isGradient;
    private bool sharesGradient;

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
