using System.Runtime.InteropServices;
using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Memory;

namespace ExactFlow.Operators;

public static unsafe partial class RmsNorm
{
    private const string CudaSource = "rms_norm.cu";
    private static readonly RowKernel ForwardKernel = RowKernel.Of("rms_norm_forward");
    private static readonly RowKernel BackwardKernel = RowKernel.Of("rms_norm_backward");

    /// <summary>y = x w / sqrt(share sum(x^2) + epsilon), where x may first become <paramref name="sum"/> = x + <paramref name="residual"/>.</summary>
    /// <param name="operation">The operator, for messages.</param>
    /// <param name="device">Where.</param>
    /// <param name="x">Rows.</param>
    /// <param name="residual">Added to x, with the result in <paramref name="sum"/>; or both null.</param>
    /// <param name="weight">One per feature, or null for ones.</param>
    /// <param name="share">1 / dim for the mean square, 1 for the sum.</param>
    /// <param name="epsilon">Under the root.</param>
    /// <param name="sum">The sum, or null.</param>
    /// <param name="y">The result.</param>
    internal static void Forward(
        string operation, CudaDevice device, Tensor x, Tensor? residual, Tensor? weight, float share, float epsilon, Tensor? sum, Tensor y)
    {
        var arguments = new ForwardArguments
        {
            X = x.Address,
            Residual = residual?.Address ?? 0,
            Weight = weight?.Address ?? 0,
            Sum = sum?.Address ?? 0,
            Y = y.Address,
            Share = share,
            Epsilon = epsilon,
        };
        var rows = CudaRows.Of(operation, x, arguments.X | arguments.Residual | arguments.Weight | arguments.Sum | arguments.Y);
        arguments.Rows = rows.Argument;
        rows.Forward(device, CudaSource, ForwardKernel, arguments);
    }

    /// <summary>
    /// The gradients of x, to which what reaches x besides the norm is added, and of the weight. Where <paramref name="normalized"/> says so, the result is
    /// written once more, possibly in the place of its gradient.
    /// </summary>
    internal static void Backward(
        string operation,
        CudaDevice device,
        Tensor x,
        Tensor? weight,
        float share,
        float epsilon,
        Tensor outputGradient,
        Tensor? direct,
        CudaTarget inputGradient,
        CudaTarget weightGradient,
        Tensor? normalized = null)
    {
        var arguments = new CudaNormGradient
        {
            X = x.Address,
            OutputGradient = outputGradient.Address,
            Direct = direct?.Address ?? 0,
            Weight = weight?.Address ?? 0,
            InputGradient = inputGradient,
            Share = share,
            Epsilon = epsilon,
        };
        nint addresses = arguments.X | arguments.OutputGradient | arguments.Direct | arguments.Weight | inputGradient.Address | (normalized?.Address ?? 0);
        var rows = CudaRows.Of(operation, x, addresses).ForNormGradient(device);
        arguments.Rows = rows.ArgumentAhead(device, tensors: 3);
        arguments.Normalized = rows.IsFew ? 0 : normalized?.Address ?? 0;
        int blocks = rows.BackwardBlocks(device);
        using var partial = new Scratch(device, weightGradient.IsWanted ? (long)blocks * rows.Dimension * sizeof(float) : 0);
        arguments.Partial = weightGradient.IsWanted ? partial.Address : 0;
        rows.Backward(device, CudaSource, BackwardKernel, arguments, arguments.Rows.Ahead);
        if (weightGradient.IsWanted)
        {
            CudaFold.Run(device, partial.Address, blocks, rows.Dimension, rows.Dimension, weightGradient);
        }

        // The bits of the first time come from the kernel of the first time.
        if (rows.IsFew && normalized is not null)
        {
            Forward(operation, device, x, null, weight, share, epsilon, null, normalized);
        }
    }

    /// <summary><c>RmsNormArgs</c> of rms_norm.cu.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct ForwardArguments
    {
        public RowsArgument Rows;
        public nint X, Residual, Weight, Sum, Y;
        public float Share, Epsilon;
    }
}
