using ExactFlow.Tensors.Autograd;

namespace ExactFlow.Tensors;

/// <content>Where a backward pass begins.</content>
public sealed partial class Tensor
{
    /// <summary>
    /// Whether the gradient of this scalar is the 1 with which <see cref="Backward()"/> begins and nobody has asked for it as a tensor. An operator that looks
    /// here first, and then does not read <see cref="Grad"/>, needs no memory for it, no copy from the host and no product with it.
    /// </summary>
    public bool GradIsOne => gradient is { IsOne: true };

    /// <summary>Computes the gradients of everything this scalar was computed from in the open step.</summary>
    /// <exception cref="InvalidOperationException">Not a scalar, not part of a recorded computation, with a gradient already, or no step is open.</exception>
    public void Backward()
    {
        if (Count != 1)
        {
            throw new InvalidOperationException($"Backward starts from a scalar loss, but this tensor has shape {Shape}: pass the gradient of its elements.");
        }

        GradientSlot slot = RequiredSlot();
        if (slot.IsWritten)
        {
            throw HasGradAlready();
        }

        slot.IsOne = slot.IsWritten = true;
        RunTape();
    }

    /// <summary>Computes the gradients of everything this tensor was computed from, given the gradient of its own elements.</summary>
    /// <param name="gradientOfThis">Same shape as this tensor. A tensor of the step is taken without a copy, and its values are undefined afterwards.</param>
    public void Backward(Tensor gradientOfThis)
    {
        SeedGrad(gradientOfThis);
        RunTape();
    }

    /// <summary>Adds a gradient without running the tape: for results that several tensors are differentiated from, before the last one's <see cref="Backward(Tensor)"/>.</summary>
    /// <param name="gradientOfThis">As for <see cref="Backward(Tensor)"/>.</param>
    public void SeedGrad(Tensor gradientOfThis)
    {
        ArgumentNullException.ThrowIfNull(gradientOfThis);
        if (gradientOfThis.Shape != Shape)
        {
            throw new InvalidInputException($"The gradient given for a tensor {Shape} has shape {gradientOfThis.Shape}; both must be equal.");
        }

        if (TryAdoptGrad(gradientOfThis))
        {
            return;
        }

        Tensor target = GradForWrite(out bool accumulate);
        if (accumulate)
        {
            throw HasGradAlready();
        }

        Device.Copy(gradientOfThis.Address, target.Address, ByteCount);
    }

    private static InvalidOperationException HasGradAlready() => new("A gradient was seeded for a tensor that already has one.");

    private GradientSlot RequiredSlot()
        => gradient ?? throw new InvalidOperationException($"The gradient of a tensor {Shape} was written, but it does not require one.");

    private void RunTape()
    {
        Step step = Device.CurrentStep ?? throw new InvalidOperationException("Backward needs the step in which the loss was computed, but none is open.");
        step.Tape.Backward(step);
    }

    /// <summary>Gives a gradient that is 1 its memory, once somebody reads it or adds to it.</summary>
    private void WriteOne()
    {
        if (gradient is { IsOne: true } slot)
        {
            slot.IsOne = false;
            slot.Value ??= slot.IsPersistent ? Device.Persistent(slot.Shape, slot.Type) : EmptyGradient(slot);
            slot.Value.CopyFrom<float>([1f]);
        }
    }
}
