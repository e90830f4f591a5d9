using System.Runtime.InteropServices;
using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Memory;

namespace ExactFlow.Operators;

public static unsafe partial class GatedRmsNorm
{
    private const string CudaSource = "gated_rms_norm.cu";
    private static readonly RowKernel ForwardKernel = RowKernel.Of("gated_rms_norm_forward");
    private static readonly RowKernel BackwardKernel = RowKernel.Of("gated_rms_norm_backward");

    private static void Forward(CudaDevice device, Tensor x, Tensor gate, Tensor weight, GatePlacement placement, float epsilon, Tensor y)
    {
        var arguments = new ForwardArguments
        {
            X = x.Address,
            Gate = gate.Address,
            Weight = weight.Address,
            Y = y.Address,
            Epsilon = epsilon,
            GateFirst = placement == GatePlacement.BeforeNorm ? 1 : 0,
        };
        var rows = CudaRows.Of("GatedRmsNorm", x, arguments.X | arguments.Gate | arguments.Weight | arguments.Y);
        arguments.Rows = rows.Argument;
        rows.Forward(device, CudaSource, ForwardKernel, arguments);
    }

    private static void Backward(
        CudaDevice device,
        Tensor x,
        Tensor gate,
        Tensor weight,
        GatePlacement placement,
        float epsilon,
        Tensor outputGradient,
        CudaTarget inputGradient,
        CudaTarget gateGradient,
        CudaTarget weightGradient)
    {
        var arguments = new BackwardArguments
        {
            X = x.Address,
            Gate = gate.Address,
            OutputGradient = outputGradient.Address,
            Weight = weight.Address,
            InputGradient = inputGradient,
            GateGradient = gateGradient,
            Epsilon = epsilon,
            GateFirst = placement == GatePlacement.BeforeNorm ? 1 : 0,
        };
        nint addresses = arguments.X | arguments.Gate | arguments.OutputGradient | arguments.Weight | inputGradient.Address | gateGradient.Address;
        var rows = CudaRows.Of("GatedRmsNorm", x, addresses);
        arguments.Rows = rows.ArgumentAhead(device, tensors: 3);
        int blocks = rows.BackwardBlocks(device);
        using var partial = new Scratch(device, weightGradient.IsWanted ? (long)blocks * rows.Dimension * sizeof(float) : 0);
        arguments.Partial = weightGradient.IsWanted ? partial.Address : 0;
        rows.Backward(device, CudaSource, BackwardKernel, arguments, arguments.Rows.Ahead);
        if (weightGradient.IsWanted)
        {
            CudaFold.Run(device, partial.Address, blocks, rows.Dimension, rows.Dimension, weightGradient);
        }
    }

    /// <summary><c>GatedRmsNormArgs</c> of gated_rms_norm.cu.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct ForwardArguments
    {
        public RowsArgument Rows;
        public nint X, Gate, Weight, Y;
        public float Epsilon;
        public int GateFirst;
    }

    /// <summary><c>GatedRmsNormGradArgs</c> of gated_rms_norm.cu.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct BackwardArguments
    {
        public RowsArgument Rows;
        public nint X, Gate, OutputGradient, Weight, Partial;
        public CudaTarget InputGradient, GateGradient;
        public float Epsilon;
        public int GateFirst;
    }
}
