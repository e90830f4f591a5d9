using System.Runtime.InteropServices;
using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Memory;

namespace ExactFlow.Operators;

public static unsafe partial class HeadSkip
{
    private const string CudaSource = "head_skip.cu";
    private static readonly KernelName ValuePieces = KernelName.Of("head_skip_pieces");
    private static readonly KernelName ValueElements = KernelName.Of("head_skip_elements");
    private static readonly KernelName GradientPieces = KernelName.Of("head_skip_gradient_pieces");
    private static readonly KernelName GradientElements = KernelName.Of("head_skip_gradient_elements");

    private static void Forward(CudaDevice device, Tensor output, Tensor x, Tensor weight, Tensor y)
    {
        if (x.Count == 0)
        {
            return;
        }

        bool pieces = HasPieces(x) && CudaUnits.AreAligned(output.Address, x.Address, y.Address);
        CudaColumns columns = Columns(x, pieces, out int perHead);
        var arguments = new ValueArguments { Y = y.Address, Output = output.Address, X = x.Address, Weight = weight.Address, Columns = columns, PerHead = perHead };
        CudaLaunch.Run(device, CudaSource, pieces ? ValuePieces : ValueElements, x.DType, columns.Geometry(device), arguments);
    }

    /// <summary>The gradients of x and weight; that of the output is passed on.</summary>
    private static void Backward(CudaDevice device, Tensor x, Tensor weight, Tensor outputGradient, CudaTarget inputGradient, CudaTarget weightGradient)
    {
        if (!inputGradient.IsWanted && !weightGradient.IsWanted)
        {
            return;
        }

        bool pieces = HasPieces(x) && CudaUnits.AreAligned(x.Address, outputGradient.Address, inputGradient.Address);
        CudaColumns columns = Columns(x, pieces, out int perHead);
        int heads = weight.Shape[0];
        LaunchGeometry geometry = weightGradient.IsWanted ? columns.Geometry(device, rowsPerLane: 8, blocksPerMultiprocessor: 4) : columns.Geometry(device);
        long blocks = (long)geometry.GridX * geometry.GridY;
        using var partial = new Scratch(device, weightGradient.IsWanted ? blocks * heads * sizeof(float) : 0);
        var arguments = new GradientArguments
        {
            InputGradient = inputGradient,
            OutputGradient = outputGradient.Address,
            X = x.Address,
            Weight = weight.Address,
            Partial = weightGradient.IsWanted ? partial.Address : 0,
            Columns = columns,
            PerHead = perHead,
            Heads = heads,
        };
        CudaLaunch.Run(device, CudaSource, pieces ? GradientPieces : GradientElements, x.DType, geometry, arguments);
        if (weightGradient.IsWanted)
        {
            CudaFold.Run(device, partial.Address, blocks, heads, heads, weightGradient);
        }
    }

    /// <summary>Whether heads are made of pieces of 16 bytes.</summary>
    private static bool HasPieces(Tensor x) => x.Shape[^1] % CudaUnits.Piece(x.DType) == 0;

    /// <summary>Tokens as rows.</summary>
    private static CudaColumns Columns(Tensor x, bool pieces, out int perHead)
    {
        perHead = pieces ? x.Shape[^1] / CudaUnits.Piece(x.DType) : x.Shape[^1];
        return new CudaColumns(x.Shape.RowCount() / x.Shape[^2], x.Shape[^2] * perHead);
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct ValueArguments
    {
        public nint Y, Output, X, Weight;
        public CudaColumns Columns;
        public int PerHead;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct GradientArguments
    {
        public CudaTarget InputGradient;
        public nint OutputGradient, X, Weight, Partial;
        public CudaColumns Columns;
        public int PerHead, Heads;
    }
}
