using System.Runtime.InteropServices;
using ExactFlow.Cuda;
using ExactFlow.Tensors;

namespace ExactFlow.Operators;

public static unsafe partial class Elementwise
{
    private const string CudaSource = "elementwise.cu";
    private static readonly KernelName AddKernel = KernelName.Of("add");
    private static readonly KernelName MultiplyKernel = KernelName.Of("multiply");
    private static readonly KernelName ScaleKernel = KernelName.Of("scale");
    private static readonly KernelName AddRowPieces = KernelName.Of("add_row_pieces");
    private static readonly KernelName AddRowElements = KernelName.Of("add_row_elements");
    private static readonly KernelName[] ValueKernels = [KernelName.Of("silu"), KernelName.Of("gelu"), KernelName.Of("sigmoid"), KernelName.Of("softplus")];
    private static readonly KernelName[] GradientKernels =
        [KernelName.Of("silu_gradient"), KernelName.Of("gelu_gradient"), KernelName.Of("sigmoid_gradient"), KernelName.Of("softplus_gradient")];

    private static void Forward(CudaDevice device, Activation activation, Tensor x, Tensor y)
        => new CudaMap(CudaTarget.Over(y), x.Address, 0, x.Count).Run(device, CudaSource, ValueKernels[(int)activation], x.DType);

    private static void Backward(CudaDevice device, Activation activation, Tensor x, Tensor outputGradient, CudaTarget gradient)
        => new CudaMap(gradient, x.Address, outputGradient.Address, x.Count).Run(device, CudaSource, GradientKernels[(int)activation], x.DType);

    private static void Sum(CudaDevice device, Tensor a, Tensor b, Tensor y)
        => new CudaMap(CudaTarget.Over(y), a.Address, b.Address, a.Count).Run(device, CudaSource, AddKernel, a.DType);

    private static void Product(CudaDevice device, Tensor a, Tensor b, CudaTarget y)
        => new CudaMap(y, a.Address, b.Address, a.Count).Run(device, CudaSource, MultiplyKernel, a.DType);

    private static void Scaled(CudaDevice device, Tensor x, float factor, CudaTarget y)
        => new CudaMap(y, x.Address, 0, x.Count) { Factor = factor }.Run(device, CudaSource, ScaleKernel, x.DType);

    private static void SigmoidToFloat32(CudaDevice device, Tensor x, Tensor y)
        => RunEights(device, "sigmoid_to_float32", new CudaMap(CudaTarget.Over(y), x.Address, 0, x.Count));

    private static void SigmoidToFloat32Gradient(CudaDevice device, Tensor x, Tensor outputGradient, CudaTarget gradient)
        => RunEights(device, "sigmoid_to_float32_gradient", new CudaMap(gradient, x.Address, outputGradient.Address, x.Count));

    /// <summary>Queues a kernel between formats, whose threads take eight elements.</summary>
    private static void RunEights(CudaDevice device, string kernel, in CudaMap arguments)
    {
        if (arguments.Count > 0)
        {
            CudaLaunch.Run(device, CudaSource, kernel, CudaUnits.Along(device, arguments.Count, DType.BFloat16, arguments.Whole != 0), arguments);
        }
    }

    private static void SumWithRow(CudaDevice device, Tensor x, Tensor row, Tensor y)
    {
        if (x.Count == 0)
        {
            return;
        }

        int dimension = x.Shape[^1];
        int piece = CudaUnits.Piece(x.DType);
        bool whole = dimension % piece == 0 && CudaUnits.AreAligned(x.Address, row.Address, y.Address);
        var columns = new CudaColumns(x.Shape.RowCount(), whole ? dimension / piece : dimension);
        var arguments = new RowArguments { Y = y.Address, X = x.Address, Row = row.Address, Columns = columns };
        CudaLaunch.Run(device, CudaSource, whole ? AddRowPieces : AddRowElements, x.DType, columns.Geometry(device), arguments);
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct RowArguments
    {
        public nint Y, X, Row;
        public CudaColumns Columns;
    }
}
