using ExactFlow.Tensors;
using ExactFlow.Tensors.Memory;
using ExactFlow.Tensors.Parallel;

namespace ExactFlow.Operators;

public static unsafe partial class RmsNorm
{
    private static void Forward(CpuDevice device, Tensor x, Tensor weight, float epsilon, Tensor y)
    {
        int dimension = x.Shape[^1];
        FixedBlocks blocks = FixedBlocks.ForMap(x.Shape.RowCount(), dimension);
        device.Workers.For(
            blocks.Count,
            new ForwardBody { Blocks = blocks, Dimension = dimension, Epsilon = epsilon, X = x.Floats, Weight = weight.Floats, Y = y.Floats });
    }

    private static void Backward(
        CpuDevice device, Tensor x, Tensor weight, float epsilon, Tensor outputGradient, GradientTarget inputGradient, GradientTarget weightGradient)
    {
        int dimension = x.Shape[^1];
        FixedBlocks blocks = FixedBlocks.ForSums(x.Shape.RowCount(), dimension);
        using var partial = new Scratch(device, (long)blocks.Count * dimension * sizeof(float));
        device.Workers.For(
            blocks.Count,
            new BackwardBody
            {
                Blocks = blocks,
                Dimension = dimension,
                Epsilon = epsilon,
                X = x.Floats,
                Weight = weight.Floats,
                OutputGradient = outputGradient.Floats,
                InputGradient = inputGradient,
                WeightPartial = partial.Floats,
            });
        if (weightGradient.IsWanted)
        {
            RowSums.Fold(partial.Floats, blocks.Count, dimension, weightGradient.Address, weightGradient.Accumulate);
        }
    }

    private struct ForwardBody : IParallelBody
    {
        public FixedBlocks Blocks;
        public int Dimension;
        public float Epsilon;
        public float* X;
        public float* Weight;
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

                float inverse = 1 / MathF.Sqrt((squares / Dimension) + Epsilon);
                for (int i = 0; i < Dimension; i++)
                {
                    y[i] = x[i] * inverse * Weight[i];
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
        public float* Weight;
        public float* OutputGradient;
        public GradientTarget InputGradient;
        public float* WeightPartial;

        public readonly void Run(int index, int worker)
        {
            float* weightSum = WeightPartial + ((long)index * Dimension);
            new Span<float>(weightSum, Dimension).Clear();
            for (long row = Blocks.Start(index); row < Blocks.End(index); row++)
            {
                float* x = X + (row * Dimension);
                float* dy = OutputGradient + (row * Dimension);
                float squares = 0;
                float dot = 0;
                for (int i = 0; i < Dimension; i++)
                {
                    squares += x[i] * x[i];
                    dot += dy[i] * Weight[i] * x[i];
                }

                float inverse = 1 / MathF.Sqrt((squares / Dimension) + Epsilon);
                float along = dot * inverse * inverse / Dimension;
                for (int i = 0; i < Dimension; i++)
                {
                    weightSum[i] += dy[i] * x[i] * inverse;
                    if (InputGradient.IsWanted)
                    {
                        float* dx = InputGradient.Address + (row * Dimension) + i;
                        float value = inverse * ((dy[i] * Weight[i]) - (x[i] * along));
                        *dx = InputGradient.Accumulate ? *dx + value : value;
                    }
                }
            }
        }
    }
}
