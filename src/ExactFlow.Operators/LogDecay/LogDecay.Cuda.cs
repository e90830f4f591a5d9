using System.Runtime.InteropServices;
using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Memory;

namespace ExactFlow.Operators;

public static unsafe partial class LogDecay
{
    private const string CudaSource = "log_decay.cu";
    private static readonly KernelName ValueKernel = KernelName.Of("log_decay");
    private static readonly KernelName GradientKernel = KernelName.Of("log_decay_gradient");

    private static void Forward(CudaDevice device, Tensor a, Tensor aLog, Tensor dtBias, Tensor y)
    {
        if (a.Count > 0)
        {
            var columns = new CudaColumns(a.Shape.RowCount(), a.Shape[^1]);
            var arguments = new ValueArguments { Y = y.Address, A = a.Address, ALog = aLog.Address, DtBias = dtBias.Address, Columns = columns };
            CudaLaunch.Run(device, CudaSource, ValueKernel, a.DType, columns.Geometry(device), arguments);
        }
    }

    private static void Backward(
        CudaDevice device, Tensor a, Tensor aLog, Tensor dtBias, Tensor outputGradient, CudaTarget inputGradient, CudaTarget rateGradient, CudaTarget biasGradient)
    {
        int heads = a.Shape[^1];
        bool sums = rateGradient.IsWanted || biasGradient.IsWanted;
        var columns = new CudaColumns(a.Shape.RowCount(), heads);
        LaunchGeometry geometry = columns.Geometry(device, rowsPerLane: 8, blocksPerMultiprocessor: 4);
        using var partial = new Scratch(device, sums ? 2L * geometry.GridX * heads * sizeof(float) : 0);
        var arguments = new GradientArguments
        {
            InputGradient = inputGradient,
            A = a.Address,
            ALog = aLog.Address,
            DtBias = dtBias.Address,
            OutputGradient = outputGradient.Address,
            Partial = sums ? partial.Address : 0,
            Columns = columns,
        };
        CudaLaunch.Run(device, CudaSource, GradientKernel, a.DType, geometry, arguments);
        if (sums)
        {
            CudaFold.Run(device, partial.Address, geometry.GridX, 2 * heads, heads, rateGradient, biasGradient);
        }
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct ValueArguments
    {
        public nint Y, A, ALog, DtBias;
        public CudaColumns Columns;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct GradientArguments
    {
        public CudaTarget InputGradient;
        public nint A, ALog, DtBias, OutputGradient, Partial;
        public CudaColumns Columns;
    }
}
