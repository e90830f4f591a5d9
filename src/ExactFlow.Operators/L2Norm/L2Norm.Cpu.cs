using ExactFlow.Tensors;
using ExactFlow.Tensors.Parallel;

namespace ExactFlow.Operators;

public static unsafe partial class L2Norm
{
    private static void Forward(CpuDevice device, Tensor x, float epsilon, Tensor y)
    {
        int dimension = x.Shape[^1];
        FixedBlocks blocks = FixedBlocks.ForMap(x.Shape.RowCount(), dimension);
        device.Workers.For(blocks.Count, new ForwardBody { Blocks = blocks, Dimension = dimension, Epsilon = epsilon, X = x.Floats, Y = y.Floats });
    }

    private static void Backward(CpuDevice device, Tensor x, float epsilon, Tensor outputGradient, GradientTarget inputGradient)
    {
        int dimension = x.Shape[^1];
        FixedBlocks blocks = FixedBlocks.ForMap(x.Shape.RowCount(), dimension);
        device.Workers.For(
            blocks.Count,
            new BackwardBody
            {
                Blocks = blocks,
                Dimension = dimension,
                Epsilon = epsilon,
                X = x.Floats,
                OutputGradient = outputGradient.Floats,
                InputGradient = inputGradient,
            });
    }

    private struct ForwardBody : IParallelBody
    {
        public FixedBlocks Blocks;
        public int Dimension;
        public float Epsilon;
        public float* X;
        public float* Y;

        public readonly void Run(int index, int worker)
        {
            for (long row = Blocks.Start(index); row < Blocks.End(index); row++)
            {
                float* x = X + (row * Dimension);
                float* y = Y + (row * Dimension);
                float squares = 0;
                for (int i = 0; i < Dimension; i++)
                {
                    squares += x[i] * x[i];
                }

                float inverse = 1 / MathF.Sqrt(squares + Epsilon);
                for (int i = 0; i < Dimension; i++)
                {
                    y[i] = x[i] * inverse;
                }
            }
        }
    }

    private struct BackwardBody : IParallelBody
    {
        public FixedBlocks Blocks;
        public int Dimension;
        public float Epsilon;
        public float* X;
        public float* OutputGradient;
        public GradientTarget InputGradient;

        public readonly void Run(int index, int worker)
        {
            for (long row = Blocks.Start(index); row < Blocks.End(index); row++)
            {
                float* x = X + (row * Dimension);
                float* dy = OutputGradient + (row * Dimension);
                float* dx = InputGradient.Address + (row * Dimension);
                float squares = 0;
                float dot = 0;
                for (int i = 0; i < Dimension; i++)
                {
                    squares += x[i] * x[i];
                    dot += dy[i] * x[i];
                }

                float inverse = 1 / MathF.Sqrt(squares + Epsilon);
                float along = dot * inverse * inverse;
                for (int i = 0; i < Dimension; i++)
                {
                    float value = inverse * (dy[i] - (x[i] * along));
                    dx[i] = InputGradient.Accumulate ? dx[i] + value : value;
                }
            }
        }
    }
}
