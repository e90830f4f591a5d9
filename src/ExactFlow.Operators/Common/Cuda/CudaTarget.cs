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

    /// <summary>Whether a gradient is wanted.</summary>
    public bool IsWanted => address != 0;

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
}
