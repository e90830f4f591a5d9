using System.Runtime.InteropServices;
using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Memory;

namespace ExactFlow.Operators;

public static partial class Linear
{
    /// <summary>The most rows that are worth more than a matrix product when no gradient is recorded: fewer than a tile of the tensor cores.</summary>
    private const int MostFewRows = 8;

    /// <summary>From this many outputs on, a warp that computes four of them leaves enough warps to fill the GPU.</summary>
    private const int OutputsForFour = 16_384;

    private static readonly KernelName[] FewRowsOne = FewRowsKernels(1), FewRowsFour = FewRowsKernels(4);

    private static void Forward(CudaDevice device, Tensor x, Tensor weight, Tensor? bias, Tensor y, bool isRecorded)
    {
        int rows = checked((int)x.Shape.RowCount());
        if (rows <= MostFewRows && !isRecorded)
        {
            FewRows(device, x, weight, bias, y, rows);
            return;
        }

        // The product's epilogue takes a bias in the format of its result.
        using var roundedBias = new Scratch(device, bias is null ? 0 : bias.ByteCount);
        nint biasAddress = bias?.Address ?? 0;
        if (bias is not null && y.DType == DType.BFloat16)
        {
            CudaArithmetic.ToBFloat16(device, roundedBias.Address, bias.Address, bias.Count);
            biasAddress = roundedBias.Address;
        }

        int outputs = weight.Shape[0], inputs = weight.Shape[1];
        device.Multiply(new MatrixProduct
        {
            Rows = rows,
            Columns = outputs,
            Depth = inputs,
            A = new MatrixOperand(x.Address, x.DType, inputs),
            B = new MatrixOperand(weight.Address, weight.DType, inputs, Transposed: true),
            C = new MatrixOperand(y.Address, y.DType, outputs),
            Bias = biasAddress,
            BiasType = y.DType,
        });
    }

    private static void Backward(CudaDevice device, Tensor x, Tensor weight, Tensor? bias, Tensor gradient)
    {
        if (bias is { RequiresGrad: true })
        {
            CudaColumnSums.Run(device, gradient, CudaTarget.Of(bias));
        }

        // A float32 gradient of bfloat16 operands is rounded as they are, for the products.
        bool isRounded = gradient.DType != x.DType;
        using var rounded = new Scratch(device, isRounded ? gradient.Count * x.DType.Size() : 0);
        if (isRounded)
        {
            CudaArithmetic.ToBFloat16(device, rounded.Address, gradient.Address, gradient.Count);
        }

        int rows = checked((int)x.Shape.RowCount());
        nint dy = isRounded ? rounded.Address : gradient.Address;
        if (x.RequiresGrad)
        {
            Tensor target = x.GradForWrite(out bool accumulate);
            InputGradient(device, dy, weight, rows, target, accumulate);
        }

        WeightGradient(device, dy, x, weight, rows);
    }

    /// <summary>target (+)= dy W.</summary>
    private static void InputGradient(CudaDevice device, nint dy, Tensor weight, int rows, Tensor target, bool accumulate)
    {
        int outputs = weight.Shape[0], inputs = weight.Shape[1];
        device.Multiply(new MatrixProduct
        {
            Rows = rows,
            Columns = inputs,
            Depth = outputs,
            A = new MatrixOperand(dy, weight.DType, outputs),
            B = new MatrixOperand(weight.Address, weight.DType, inputs),
            C = new MatrixOperand(target.Address, target.DType, inputs),
            Accumulate = accumulate,
        });
    }

    /// <summary>dW (+)= dy^T x, where the weight wants a gradient.</summary>
    private static void WeightGradient(CudaDevice device, nint dy, Tensor x, Tensor weight, int rows)
    {
        if (!weight.RequiresGrad)
        {
            return;
        }

        int outputs = weight.Shape[0], inputs = weight.Shape[1];
        Tensor target = weight.GradForWrite(out bool accumulate);
        device.Multiply(new MatrixProduct
        {
            Rows = outputs,
            Columns = inputs,
            Depth = rows,
            A = new MatrixOperand(dy, x.DType, outputs, Transposed: true),
            B = new MatrixOperand(x.Address, x.DType, inputs),
            C = new MatrixOperand(target.Address, target.DType, inputs),
            Accumulate = accumulate,
        });
    }

    private static void FewRows(CudaDevice device, Tensor x, Tensor weight, Tensor? bias, Tensor y, int rows)
    {
        int outputs = weight.Shape[0], inputs = weight.Shape[1];
        if (rows == 0 || outputs == 0)
        {
            return;
        }

        bool isFour = outputs >= OutputsForFour;
        KernelName kernel = (isFour ? FewRowsFour : FewRowsOne)[rows <= 2 ? rows - 1 : rows <= 4 ? 2 : 3];
        var arguments = new FewRowsArguments
        {
            X = x.Address,
            Weight = weight.Address,
            Bias = bias?.Address ?? 0,
            Y = y.Address,
            Inputs = inputs,
            Outputs = outputs,
            Rows = rows,
            Whole = (inputs * x.DType.Size()) % 16 == 0 && (x.Address | weight.Address) % 16 == 0 ? 1 : 0,
            Wide = y.DType == DType.Float32 ? 1 : 0,
        };
        int perBlock = isFour ? 8 : 2;
        CudaLaunch.Run(device, "linear_rows.cu", kernel, x.DType, new LaunchGeometry((outputs + perBlock - 1) / perBlock, 1, 1, 64, 1, 1, 0), arguments);
    }

    private static KernelName[] FewRowsKernels(int outputs)
        => [KernelName.Of($"linear_rows_1x{outputs}"), KernelName.Of($"linear_rows_2x{outputs}"), KernelName.Of($"linear_rows_4x{outputs}"), KernelName.Of($"linear_rows_8x{outputs}")];

    [StructLayout(LayoutKind.Sequential)]
    private struct FewRowsArguments
    {
        public nint X, Weight, Bias, Y;
        public long Inputs, Outputs;
        public int Rows, Whole, Wide;
    }
}
