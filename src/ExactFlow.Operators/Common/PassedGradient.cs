using System.Runtime.CompilerServices;
using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Operators;

/// <summary>The gradient of an input that the operator only passed on: that of its output.</summary>
internal static class PassedGradient
{
    /// <summary>
    /// Makes <paramref name="outputGradient"/> the gradient of <paramref name="input"/>, or adds it. The first one that arrives is not copied: several inputs
    /// hold the same memory then, until one of them is added to. Nothing may write to <paramref name="outputGradient"/> afterwards.
    /// </summary>
    public static void To(Tensor input, Tensor outputGradient)
    {
        if (!input.RequiresGrad || input.TryAdoptGrad(outputGradient))
        {
            return;
        }

        Tensor gradient = input.GradForWrite(out bool accumulate);
        if (!accumulate)
        {
            gradient.CopyFrom(outputGradient);
        }
        else if (input.Device is CudaDevice gpu)
        {
            CudaArithmetic.AddInto(gpu, gradient, outputGradient);
        }
        else
        {
            AddInto((CpuDevice)input.Device, gradient, outputGradient);
        }
    }

    private static unsafe void AddInto(CpuDevice device, Tensor to, Tensor from)
        => ElementwiseLoop.Run(device.Workers, from.Floats, to.Floats, to.Floats, to.Count, default(SumOfTwo));

    private readonly struct SumOfTwo : IBinaryOperator
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public TV Apply<TV>(TV a, TV b)
            where TV : struct, IFloatVector<TV>
            => a + b;
    }
}
