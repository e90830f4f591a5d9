using System.Runtime.InteropServices;
using ExactFlow.Cuda;
using ExactFlow.Tensors;

namespace ExactFlow.Operators;

public static unsafe partial class SwiGlu
{
    private const string CudaSource = "swi_glu.cu";
    private static readonly KernelName ValueKernel = KernelName.Of("swi_glu");
    private static readonly KernelName GradientKernel = KernelName.Of("swi_glu_gradient");

    private static void Forward(CudaDevice device, Tensor gate, Tensor up, Tensor y)
        => new CudaMap(CudaTarget.Over(y), gate.Address, up.Address, gate.Count).Run(device, CudaSource, ValueKernel, gate.DType);

    /// <summary>Both gradients and, where <paramref name="product"/> says so, SiLU(gate) * up once more: possibly in the place of its own gradient.</summary>
    private static void Backward(
        CudaDevice device, Tensor gate, Tensor up, Tensor outputGradient, CudaTarget gateGradient, CudaTarget upGradient, Tensor? product = null)
    {
        if (gate.Count == 0)
        {
            return;
        }

        bool whole = CudaUnits.AreAligned(gate.Address, up.Address, outputGradient.Address | (product?.Address ?? 0), gateGradient.Address, upGradient.Address);
        var arguments = new GradientArguments
        {
            GateGradient = gateGradient,
            UpGradient = upGradient,
            Gate = gate.Address,
            Up = up.Address,
            OutputGradient = outputGradient.Address,
            Product = product?.Address ?? 0,
            Count = gate.Count,
            Whole = whole ? 1 : 0,
        };
        CudaLaunch.Run(device, CudaSource, GradientKernel, gate.DType, CudaUnits.Along(device, gate.Count, gate.DType, whole), arguments);
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct GradientArguments
    {
        public CudaTarget GateGradient, UpGradient;
        public nint Gate, Up, OutputGradient, Product;
        public long Count, Whole;
    }
}
