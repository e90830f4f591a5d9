using System.Runtime.InteropServices;

namespace ExactFlow.Operators;

/// <summary>Arguments of the gradients of norms over rows; <c>NormGradArgs</c> of norm_gradient.cuh. What is 0 is not there.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct CudaNormGradient
{
    public RowsArgument Rows;
    public nint X, OutputGradient, Direct, Weight, Partial, Normalized;
    public CudaTarget InputGradient;
    public float Share, Epsilon;
}
