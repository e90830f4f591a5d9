using System.Runtime.InteropServices;
using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>What a step of the optimizer is told and finds out on a GPU; <c>StepState</c> of parameter_chunk.cuh.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct CudaStepState
{
    /// <summary>Norm of the scaled gradients, before clipping.</summary>
    public double Norm;

    /// <summary>Factor for every gradient: the scale, times what clips.</summary>
    public float Factor;

    /// <summary>1 when the norm is finite; 0 when nothing may be changed, and until it is known.</summary>
    public int IsFinite;

    /// <summary>learning rate / (1 - beta1^t).</summary>
    public float StepSize;

    /// <summary>1 / sqrt(1 - beta2^t).</summary>
    public float RootCorrection;

    /// <summary>1 - learning rate * weight decay, for parameters that decay.</summary>
    public float Shrink;

    /// <summary>Makes the size a multiple of 8.</summary>
    private readonly int unused;

    /// <summary>Memory for one on a device; the caller disposes it.</summary>
    public static unsafe Tensor Allocate(Device device) => device.Persistent([sizeof(CudaStepState) / sizeof(int)], DType.Int32);

    /// <summary>Copies this to the device.</summary>
    public readonly void CopyTo(Tensor memory)
    {
        CudaStepState state = this;
        memory.CopyFrom<int>(MemoryMarshal.Cast<CudaStepState, int>(new ReadOnlySpan<CudaStepState>(in state)));
    }

    /// <summary>Waits for the device and reads what lies there.</summary>
    public static CudaStepState From(Tensor memory)
    {
        CudaStepState state = default;
        memory.CopyTo(MemoryMarshal.Cast<CudaStepState, int>(new Span<CudaStepState>(ref state)));
        return state;
    }
}
