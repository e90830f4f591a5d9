using ExactFlow.Tensors;
using ExactFlow.Tensors.Memory;
using ExactFlow.Tensors.Parallel;

namespace ExactFlow.Operators;

public static unsafe partial class LayerNorm
{
    private static void Forward(CpuDevice device, Tensor x, Tensor weight, Tensor bias, float epsilon, Tensor y)
    {
        int dimension = x.Shape[^1];
        FixedBlocks blocks = FixedBlocks.ForMap(x.Shape.RowCount(), dimension);
        device.Workers.For(
            blocks.Count,
            new ForwardBody { Blocks = blocks, Dimension = dimension, Epsilon = epsilon, X = x.Floats, Weight = weight.Floats, Bias = bias.Floats, Y = y.Floats });
    }

    private static void Backward(
        CpuDevice device,
        Tensor x,
        Tensor weight,
        float epsilon,
        Tensor outputGradient,
        GradientTarget inputGradient,
        GradientTarget weightGradient,
        GradientTarget biasGradient)
    {
        int dimension = x.Shape[^1];
        FixedBlocks blocks = FixedBlocks.ForSums(x.Shape.RowCount(), dimension);
        using var partial = new Scratch(device, 2L * blocks.Count * dimension * sizeof(float));
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
                Partial = partial.Floats,
            });
        if (weightGradient.IsWanted)
        {
            RowSums.Fold(partial.Floats, blocks.Count, dimension, weightGradient.Address, weightGradient.Accumulate, 2L * dimension);
        }

        if (biasGradient.IsWanted)
        {
            RowSums.Fold(partial.Floats + dimension, blocks.Count, dimension, biasGradient.Address, biasGradient.Accumulate, 2L * dimension);
        }
    }

    private static (float Mean, float Inverse) Moments(float* x, int dimension, float epsilon)
    {
        float sum = 0;
        for (int i = 0; i < dimension; i++)
        {
            sum += x[i];
        }

        float mean = sum / dimension;
        float squares = 0;
        for (int i = 0; i < dimension; i++)
        {
            squares += (x[i] - mean) * (x[i] - mean);
        }

        return (mean, 1 / MathF.Sqrt((squares / dimension) + epsilon));
    }

    private struct ForwardBody : IParallelBody
    {
        public FixedBlocks Blocks;
        public int Dimension;
        public float Epsilon;
        public float* X;
        public float* Weight;
        public float* Bias;
        public float* Y;

        public readonly void Run(int index, int worker)
        {
            for (long row = Blocks.Start(index); row < Blocks.End(index); row++)
            {
                float* x = X + (row * Dimension);
                float* y = Y + (row * Dimension);
                (float mean, float inverse) = Moments(x, Dimension, Epsilon);
                for (int i = 0; i < Dimension; i++)
                {
                    y[i] = ((x[i] - mean) * inverse * Weight[i]) + Bias[i];
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
        public float* Partial;

        public readonly void Run(int index, int worker)
        {
            float* weightSum = Partial + (2L * index * Dimension);
            float* biasSum = weightSum + Dimension;
            new Span<float>(weightSum, 2 * Dimension).Clear();
            for (long row = Blocks.Start(index); row < Blocks.End(index); row++)
            {
                float* x = X + (row * Dimension);
                float* dy = OutputGradient + (row * Dimension);
                (float mean, float inverse) = Moments(x, Dimension, Epsilon);
                float sum = 0;
                float dot = 0;
                for (int i = 0; i < Dimension; i++)
                {
                    float normal = (x[i] - mean) * inverse;
                    weightSum[i] += dy[i] * normal;
                    biasSum[i] += dy[i];
                    sum += dy[i] * Weight[i];
                    dot += dy[i] * Weight[i] * normal;
                }

                if (InputGradient.IsWanted)
                {
                    float* dx = InputGradient.Address + (row * Dimension);
                    for (int i = 0; i < Dimension; i++)
                    {
                        float normal = (x[i] - mean) * inverse;
                        float value = inverse * ((dy[i] * Weight[i]) - ((sum + (normal * dot)) / Dimension));
                        dx[i] = InputGradient.Accumulate ? dx[i] + value : value;
                    }
                }
            }
        }
    }
}
