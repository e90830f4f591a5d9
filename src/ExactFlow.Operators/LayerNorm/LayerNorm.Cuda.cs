using System.Runtime.InteropServices;
using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Memory;

namespace ExactFlow.Operators;

public static unsafe partial class LayerNorm
{
    private const string CudaSource = "layer_norm.cu";
    private static readonly RowKernel ForwardKernel = RowKernel.Of("layer_norm_forward");
    private static readonly RowKernel BackwardKernel = RowKernel.Of("layer_norm_backward");

    private static void Forward(CudaDevice device, Tensor x, Tensor weight, Tensor bias, float epsilon, Tensor y)
    {
        var arguments = new ForwardArguments { X = x.Address, Weight = weight.Address, Bias = bias.Address, Y = y.Address, Epsilon = epsilon };
        var rows = CudaRows.Of("LayerNorm", x, arguments.X | arguments.Weight | arguments.Bias | arguments.Y);
        arguments.Rows = rows.Argument;
        rows.Forward(device, CudaSource, ForwardKernel, arguments);
    }

    private static void Backward(
        CudaDevice device, Tensor x, Tensor weight, float epsilon, Tensor outputGradient, CudaTarget inputGradient, CudaTarget weightGradient, CudaTarget biasGradient)
    {
        var arguments = new CudaNormGradient
        {
            X = x.Address,
            OutputGradient = outputGradient.Address,
            Weight = weight.Address,
            InputGradient = inputGradient,
            Share = 1f / x.Shape[^1],
            Epsilon = epsilon,
        };
        var rows = CudaRows.Of("LayerNorm", x, arguments.X | arguments.OutputGradient | arguments.Weight | inputGradient.Address).ForNormGradient(device);
        arguments.Rows = rows.Argument;
        int blocks = rows.BackwardBlocks(device);
        bool wantsSums = weightGradient.IsWanted || biasGradient.IsWanted;
        using var partial = new Scratch(device, wantsSums ? 2L * blocks * rows.Dimension * sizeof(float) : 0);
        arguments.Partial = wantsSums ? partial.Address : 0;
        rows.Backward(device, CudaSource, BackwardKernel, arguments);
        if (wantsSums)
        {
            CudaFold.Run(device, partial.Address, blocks, 2 * rows.Dimension, rows.Dimension, weightGradient, biasGradient);
        }
    }

    /// <summary><c>LayerNormArgs</c> of layer_norm.cu.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct ForwardArguments
    {
        public RowsArgument Rows;
        public nint X, Weight, Bias, Y;
        public float Epsilon;
    }
}
