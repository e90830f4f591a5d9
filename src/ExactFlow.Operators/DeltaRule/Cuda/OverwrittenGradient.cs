using ExactFlow.Cuda;
using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>
/// The gradient of an input from a kernel that always writes and never adds: straight to its place when it is the first one there, otherwise beside it and added afterwards.
/// </summary>
internal readonly struct OverwrittenGradient
{
    private readonly Tensor? written;
    private readonly Tensor? sum;
    private readonly bool isTemporary;

    private OverwrittenGradient(Tensor? written, Tensor? sum, bool isTemporary) => (this.written, this.sum, this.isTemporary) = (written, sum, isTemporary);

    /// <summary>Where the kernel writes, or 0 for nowhere.</summary>
    public nint Address => written?.Address ?? 0;

    /// <summary>Asks an input for its gradient, once per backward pass.</summary>
    /// <param name="device">The GPU.</param>
    /// <param name="input">The input, or null.</param>
    /// <param name="isUnconditional">Whether the kernel writes this one even when nobody wants it.</param>
    public static OverwrittenGradient Of(CudaDevice device, Tensor? input, bool isUnconditional = false)
    {
        if (input is not { RequiresGrad: true })
        {
            return isUnconditional && input is not null ? new(device.Empty(input.Shape, input.DType), null, isTemporary: true) : default;
        }

        Tensor target = input.GradForWrite(out bool accumulate);
        return accumulate ? new(device.Empty(target.Shape, target.DType), target, isTemporary: true) : new(target, null, isTemporary: false);
    }

    /// <summary>Call after the kernel.</summary>
    public void Finish(CudaDevice device)
    {
        if (sum is not null)
        {
            CudaArithmetic.AddInto(device, sum, written!);
        }

        if (isTemporary)
        {
            written!.Dispose();
        }
    }
}
