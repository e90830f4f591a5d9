using System.Runtime.InteropServices;
using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>Where a kernel writes the gradient of one input; <c>Target</c> of elements.cuh. The default asks for none.</summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly struct CudaTarget
{
    private readonly nint address;
    private readonly long accumulate;

    /// <summary>Over undefined memory, or added to what is there.</summary>
    public CudaTarget(nint address, bool accumulate)
    {
        this.address = address;
        this.accumulate = accumulate ? 1 : 0;
    }

    /// <summary>First element on the device, or 0 when no gradient is wanted.</summary>
    public nint Address => address;

    /// <summary>Whether a gradient is wanted.</summary>
    public bool IsWanted => address != 0;

    /// <summary>Whether to add to what is there.</summary>
    public bool Accumulates => accumulate != 0;

    /// <summary>A result that is written, not added to.</summary>
    public static CudaTarget Over(Tensor result) => new(result.Address, accumulate: false);

    /// <summary>Asks an input for its gradient. Call it once per input and backward pass, since the next call accumulates.</summary>
    public static CudaTarget Of(Tensor? input)
    {
        if (input is not { RequiresGrad: true })
        {
            return default;
        }

        Tensor gradient = input.GradForWrite(out bool accumulate);
        return new CudaTarget(gradient.Address, accumulate);
    }

    /// <summary>The same for an activation, whose gradient the kernel writes in the number format of the activation.</summary>
    /// <exception cref="InvalidOperationException">The gradient has another format: the input is a rounded copy of a parameter.</exception>
    public static CudaTarget OfActivation(Tensor? input)
    {
        if (input is not { RequiresGrad: true })
        {
            return default;
        }

        Tensor gradient = input.GradForWrite(out bool accumulate);
        return gradient.DType == input.DType
            ? new CudaTarget(gradient.Address, accumulate)
            : throw new InvalidOperationException($"The gradient of {input} was asked for as {input.DType}, but it is kept as {gradient.DType}: this operator takes activations, not working copies of parameters.");
    }
}
