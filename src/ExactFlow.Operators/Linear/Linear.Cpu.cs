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
        int outputs = weight.Shape[0];
        int inputs = weight.Shape[1];
        if (x.RequiresGrad)
        {
            Tensor target = x.GradForWrite(out bool accumulate);
            MatrixMultiply.Run(device.Workers, rows, inputs, outputs, gradient.Floats, outputs, false, weight.Floats, inputs, false, target.Floats, inputs, accumulate);
        }

        if (weight.RequiresGrad)
        {
            Tensor target = weight.GradForWrite(out bool accumulate);
            MatrixMultiply.Run(device.Workers, outputs, inputs, rows, gradient.Floats, outputs, true, x.Floats, inputs, false, target.Floats, inputs, accumulate);
        }

        if (bias is { RequiresGrad: true })
        {
            Tensor target = bias.GradForWrite(out bool accumulate);
            RowSums.Run(device, gradient, target, accumulate);
        }
    }
}
