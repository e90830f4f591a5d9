using ExactFlow.Tensors;
using ExactFlow.Tensors.MatrixProduct;

namespace ExactFlow.Operators;

public static unsafe partial class Linear
{
    private static void Forward(CpuDevice device, Tensor x, Tensor weight, Tensor? bias, Tensor y)
    {
        int rows = checked((int)x.Shape.RowCount());
        int outputs = weight.Shape[0];
        int inputs = weight.Shape[1];
        if (bias is null)
        {
            MatrixMultiply.Run(device.Workers, rows, outputs, inputs, x.Floats, inputs, false, weight.Floats, inputs, true, y.Floats, outputs, accumulate: false);
        }
        else
        {
            MatrixMultiply.Run(
                device.Workers, rows, outputs, inputs, x.Floats, inputs, false, weight.Floats, inputs, true, y.Floats, outputs, accumulate: false, new AddBias(bias.Floats));
        }
    }

    private static void Backward(CpuDevice device, Tensor x, Tensor weight, Tensor? bias, Tensor gradient)
    {
        int rows = checked((int)x.Shape.RowCount());
        if (x.RequiresGrad)
        {
            Tensor target = x.GradForWrite(out bool accumulate);
            InputGradient(device, gradient, weight, rows, target, accumulate);
        }

        WeightGradient(device, gradient, x, weight, rows);
        if (bias is { RequiresGrad: true })
        {
            Tensor target = bias.GradForWrite(out bool accumulate);
            RowSums.Run(device, gradient, target, accumulate);
        }
    }

    private static void InputGradient(CpuDevice device, Tensor gradient, Tensor weight, int rows, Tensor target, bool accumulate)
    {
        int outputs = weight.Shape[0], inputs = weight.Shape[1];
        MatrixMultiply.Run(device.Workers, rows, inputs, outputs, gradient.Floats, outputs, false, weight.Floats, inputs, false, target.Floats, inputs, accumulate);
    }

    private static void WeightGradient(CpuDevice device, Tensor gradient, Tensor x, Tensor weight, int rows)
    {
        if (weight.RequiresGrad)
        {
            int outputs = weight.Shape[0], inputs = weight.Shape[1];
            Tensor target = weight.GradForWrite(out bool accumulate);
            MatrixMultiply.Run(device.Workers, outputs, inputs, rows, gradient.Floats, outputs, true, x.Floats, inputs, false, target.Floats, inputs, accumulate);
        }
    }
}
