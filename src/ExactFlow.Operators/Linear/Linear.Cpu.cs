using ExactFlow.Tensors;
using ExactFlow.Tensors.MatrixProduct;
using ExactFlow.Tensors.Parallel;

namespace ExactFlow.Operators;

public static unsafe partial class Linear
{
    private static void Forward(CpuDevice device, Tensor x, Tensor weight, Tensor? bias, Tensor y)
    {
        int rows = checked((int)x.Shape.RowCount());
        int outputs = weight.Shape[0];
        int inputs = weight.Shape[1];
        if (bias is not null)
        {
            device.Workers.For(rows, new FillRow { Bias = bias.Floats, Output = y.Floats, Length = outputs });
        }

        MatrixMultiply.Run(device.Workers, rows, outputs, inputs, x.Floats, inputs, false, weight.Floats, inputs, true, y.Floats, outputs, accumulate: bias is not null);
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
            int blocks = (outputs + ColumnSum.BlockWidth - 1) / ColumnSum.BlockWidth;
            device.Workers.For(blocks, new ColumnSum { Input = gradient.Floats, Rows = rows, Columns = outputs, Output = target.Floats, Accumulate = accumulate });
        }
    }

    private struct FillRow : IParallelBody
    {
        public float* Bias;
        public float* Output;
        public int Length;

        public readonly void Run(int index, int worker)
            => new ReadOnlySpan<float>(Bias, Length).CopyTo(new Span<float>(Output + ((long)index * Length), Length));
    }

    /// <summary>Sums of columns, rows taken in order: the same bits for any number of workers.</summary>
    private struct ColumnSum : IParallelBody
    {
        public const int BlockWidth = 64;

        public float* Input;
        public int Rows;
        public int Columns;
        public float* Output;
        public bool Accumulate;

        public readonly void Run(int index, int worker)
        {
            int first = index * BlockWidth;
            int width = Math.Min(BlockWidth, Columns - first);
            Span<double> sums = stackalloc double[BlockWidth];
            sums.Clear();
            for (int row = 0; row < Rows; row++)
            {
                float* values = Input + ((long)row * Columns) + first;
                for (int j = 0; j < width; j++)
                {
                    sums[j] += values[j];
                }
            }

            for (int j = 0; j < width; j++)
            {
                Output[first + j] = (float)(Accumulate ? Output[first + j] + sums[j] : sums[j]);
            }
        }
    }
}
