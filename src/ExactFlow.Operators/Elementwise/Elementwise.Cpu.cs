using ExactFlow.Tensors;
using ExactFlow.Tensors.Parallel;

namespace ExactFlow.Operators;

public static unsafe partial class Elementwise
{
    private static void Forward(CpuDevice device, Activation activation, Tensor x, Tensor y)
    {
        FixedBlocks blocks = FixedBlocks.ForMap(x.Count, 1);
        device.Workers.For(blocks.Count, new ForwardBody { Activation = activation, Blocks = blocks, X = x.Floats, Y = y.Floats });
    }

    private static void Backward(CpuDevice device, Activation activation, Tensor x, Tensor outputGradient, Tensor gradient, bool accumulate)
    {
        FixedBlocks blocks = FixedBlocks.ForMap(x.Count, 1);
        device.Workers.For(
            blocks.Count,
            new BackwardBody
            {
                Activation = activation,
                Blocks = blocks,
                X = x.Floats,
                OutputGradient = outputGradient.Floats,
                Gradient = gradient.Floats,
                Accumulate = accumulate,
            });
    }

    private static void Sum(CpuDevice device, Tensor a, Tensor b, Tensor y)
    {
        FixedBlocks blocks = FixedBlocks.ForMap(a.Count, 1);
        device.Workers.For(blocks.Count, new SumBody { Blocks = blocks, A = a.Floats, B = b.Floats, Y = y.Floats });
    }

    private static void Product(CpuDevice device, Tensor a, Tensor b, Tensor y, bool accumulate)
    {
        FixedBlocks blocks = FixedBlocks.ForMap(a.Count, 1);
        device.Workers.For(blocks.Count, new ProductBody { Blocks = blocks, A = a.Floats, B = b.Floats, Y = y.Floats, Accumulate = accumulate });
    }

    private static void Scaled(CpuDevice device, Tensor x, float factor, Tensor y, bool accumulate)
    {
        FixedBlocks blocks = FixedBlocks.ForMap(x.Count, 1);
        device.Workers.For(blocks.Count, new ScaleBody { Blocks = blocks, X = x.Floats, Factor = factor, Y = y.Floats, Accumulate = accumulate });
    }

    private static void SumWithRow(CpuDevice device, Tensor x, Tensor row, Tensor y)
    {
        int dimension = x.Shape[^1];
        FixedBlocks blocks = FixedBlocks.ForMap(x.Shape.RowCount(), dimension);
        device.Workers.For(blocks.Count, new SumWithRowBody { Blocks = blocks, Dimension = dimension, X = x.Floats, Row = row.Floats, Y = y.Floats });
    }

    private static float Value(Activation activation, float x) => activation switch
    {
        Activation.Silu => x / (1 + MathF.Exp(-x)),
        Activation.Gelu => (float)Gelu((double)x),
        Activation.Sigmoid => 1 / (1 + MathF.Exp(-x)),
        _ => (float)Softplus((double)x),
    };

    private static float Slope(Activation activation, float x)
    {
        float sigmoid = 1 / (1 + MathF.Exp(-x));
        return activation switch
        {
            Activation.Silu => sigmoid * (1 + (x * (1 - sigmoid))),
            Activation.Gelu => (float)GeluSlope(x),
            Activation.Sigmoid => sigmoid * (1 - sigmoid),
            _ => sigmoid,
        };
    }

    private struct ForwardBody : IParallelBody
    {
        public Activation Activation;
        public FixedBlocks Blocks;
        public float* X;
        public float* Y;

        public readonly void Run(int index, int worker)
        {
            for (long i = Blocks.Start(index); i < Blocks.End(index); i++)
            {
                Y[i] = Value(Activation, X[i]);
            }
        }
    }

    private struct BackwardBody : IParallelBody
    {
        public Activation Activation;
        public FixedBlocks Blocks;
        public float* X;
        public float* OutputGradient;
        public float* Gradient;
        public bool Accumulate;

        public readonly void Run(int index, int worker)
        {
            for (long i = Blocks.Start(index); i < Blocks.End(index); i++)
            {
                float value = OutputGradient[i] * Slope(Activation, X[i]);
                Gradient[i] = Accumulate ? Gradient[i] + value : value;
            }
        }
    }

    private struct SumBody : IParallelBody
    {
        public FixedBlocks Blocks;
        public float* A;
        public float* B;
        public float* Y;

        public readonly void Run(int index, int worker)
        {
            for (long i = Blocks.Start(index); i < Blocks.End(index); i++)
            {
                Y[i] = A[i] + B[i];
            }
        }
    }

    private struct ProductBody : IParallelBody
    {
        public FixedBlocks Blocks;
        public float* A;
        public float* B;
        public float* Y;
        public bool Accumulate;

        public readonly void Run(int index, int worker)
        {
            for (long i = Blocks.Start(index); i < Blocks.End(index); i++)
            {
                float value = A[i] * B[i];
                Y[i] = Accumulate ? Y[i] + value : value;
            }
        }
    }

    private struct ScaleBody : IParallelBody
    {
        public FixedBlocks Blocks;
        public float* X;
        public float Factor;
        public float* Y;
        public bool Accumulate;

        public readonly void Run(int index, int worker)
        {
            for (long i = Blocks.Start(index); i < Blocks.End(index); i++)
            {
                float value = Factor * X[i];
                Y[i] = Accumulate ? Y[i] + value : value;
            }
        }
    }

    private struct SumWithRowBody : IParallelBody
    {
        public FixedBlocks Blocks;
        public int Dimension;
        public float* X;
        public float* Row;
        public float* Y;

        public readonly void Run(int index, int worker)
        {
            for (long row = Blocks.Start(index); row < Blocks.End(index); row++)
            {
                for (int i = 0; i < Dimension; i++)
                {
                    Y[(row * Dimension) + i] = X[(row * Dimension) + i] + Row[i];
                }
            }
        }
    }
}
