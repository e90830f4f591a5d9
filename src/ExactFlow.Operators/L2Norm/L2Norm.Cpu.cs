using System.Runtime.CompilerServices;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Operators;

public static unsafe partial class L2Norm
{
    private static void Forward(CpuDevice device, Tensor x, float epsilon, Tensor y)
    {
        int dimension = x.Shape[^1];
        FixedBlocks blocks = FixedBlocks.ForMap(x.Shape.RowCount(), dimension);
        Simd.For(device.Workers, blocks.Count, new ForwardBody { Blocks = blocks, Dimension = dimension, Epsilon = epsilon, X = x.Floats, Y = y.Floats });
    }

    private static void Backward(CpuDevice device, Tensor x, float epsilon, Tensor outputGradient, GradientTarget inputGradient)
    {
        int dimension = x.Shape[^1];
        FixedBlocks blocks = FixedBlocks.ForMap(x.Shape.RowCount(), dimension);
        Simd.For(
            device.Workers,
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

    private struct ForwardBody : IVectorBody
    {
        public FixedBlocks Blocks;
        public int Dimension;
        public float Epsilon;
        public float* X;
        public float* Y;

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public readonly void Run<TV>(int index, int worker)
            where TV : struct, IFloatVector<TV>
        {
            for (long row = Blocks.Start(index); row < Blocks.End(index); row++)
            {
                float* x = X + (row * Dimension);
                float* y = Y + (row * Dimension);
                TV scale = TV.Broadcast(1 / MathF.Sqrt(RowMath.SumOfSquares<TV>(x, Dimension) + Epsilon));
                for (int i = 0; i < Dimension; i += TV.Count)
                {
                    int left = Dimension - i;
                    RowMath.StoreUpTo(RowMath.LoadUpTo<TV>(x + i, left) * scale, y + i, left);
                }
            }
        }
    }

    private struct BackwardBody : IVectorBody
    {
        public FixedBlocks Blocks;
        public int Dimension;
        public float Epsilon;
        public float* X;
        public float* OutputGradient;
        public GradientTarget InputGradient;

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public readonly void Run<TV>(int index, int worker)
            where TV : struct, IFloatVector<TV>
        {
            for (long row = Blocks.Start(index); row < Blocks.End(index); row++)
            {
                float* x = X + (row * Dimension);
                float* dy = OutputGradient + (row * Dimension);
                float inverse = 1 / MathF.Sqrt(RowMath.SumOfSquares<TV>(x, Dimension) + Epsilon);
                TV scale = TV.Broadcast(inverse);
                TV along = TV.Broadcast(RowMath.Dot<TV>(x, dy, Dimension) * inverse * inverse);
                for (int i = 0; i < Dimension; i += TV.Count)
                {
                    int left = Dimension - i;
                    TV across = TV.NegatedMultiplyAdd(RowMath.LoadUpTo<TV>(x + i, left), along, RowMath.LoadUpTo<TV>(dy + i, left));
                    InputGradient.Write(scale * across, (row * Dimension) + i, left);
                }
            }
        }
    }
}
