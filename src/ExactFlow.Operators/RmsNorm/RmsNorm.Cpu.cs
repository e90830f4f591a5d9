using System.Runtime.CompilerServices;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Memory;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Operators;

public static unsafe partial class RmsNorm
{
    private static void Forward(CpuDevice device, Tensor x, Tensor weight, float epsilon, Tensor y)
    {
        int dimension = x.Shape[^1];
        FixedBlocks blocks = FixedBlocks.ForMap(x.Shape.RowCount(), dimension);
        Simd.For(
            device.Workers,
            blocks.Count,
            new ForwardBody { Blocks = blocks, Dimension = dimension, Epsilon = epsilon, X = x.Floats, Weight = weight.Floats, Y = y.Floats });
    }

    private static void Backward(
        CpuDevice device, Tensor x, Tensor weight, float epsilon, Tensor outputGradient, GradientTarget inputGradient, GradientTarget weightGradient)
    {
        int dimension = x.Shape[^1];
        FixedBlocks blocks = FixedBlocks.ForSums(x.Shape.RowCount(), dimension);
        using var partial = new Scratch(device, (long)blocks.Count * dimension * sizeof(float));
        Simd.For(
            device.Workers,
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
            RowSums.Fold(device, partial.Floats, blocks.Count, dimension, dimension, weightGradient.Address, weightGradient.Accumulate);
        }
    }

    private struct ForwardBody : IVectorBody
    {
        public FixedBlocks Blocks;
        public int Dimension;
        public float Epsilon;
        public float* X;
        public float* Weight;
        public float* Y;

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public readonly void Run<TV>(int index, int worker)
            where TV : struct, IFloatVector<TV>
        {
            for (long row = Blocks.Start(index); row < Blocks.End(index); row++)
            {
                float* x = X + (row * Dimension);
                float* y = Y + (row * Dimension);
                float inverse = 1 / MathF.Sqrt((RowMath.SumOfSquares<TV>(x, Dimension) / Dimension) + Epsilon);
                TV scale = TV.Broadcast(inverse);
                for (int i = 0; i < Dimension; i += TV.Count)
                {
                    int left = Dimension - i;
                    RowMath.StoreUpTo(RowMath.LoadUpTo<TV>(x + i, left) * scale * RowMath.LoadUpTo<TV>(Weight + i, left), y + i, left);
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
        public float* Weight;
        public float* OutputGradient;
        public GradientTarget InputGradient;
        public float* WeightPartial;

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public readonly void Run<TV>(int index, int worker)
            where TV : struct, IFloatVector<TV>
        {
            float* weightSum = WeightPartial + ((long)index * Dimension);
            new Span<float>(weightSum, Dimension).Clear();
            for (long row = Blocks.Start(index); row < Blocks.End(index); row++)
            {
                float* x = X + (row * Dimension);
                float* dy = OutputGradient + (row * Dimension);
                TV squares = TV.Zero;
                TV dot = TV.Zero;
                for (int i = 0; i < Dimension; i += TV.Count)
                {
                    int left = Dimension - i;
                    TV value = RowMath.LoadUpTo<TV>(x + i, left);
                    squares = TV.MultiplyAdd(value, value, squares);
                    dot = TV.MultiplyAdd(RowMath.LoadUpTo<TV>(dy + i, left) * RowMath.LoadUpTo<TV>(Weight + i, left), value, dot);
                }

                float inverse = 1 / MathF.Sqrt((squares.Sum() / Dimension) + Epsilon);
                TV scale = TV.Broadcast(inverse);
                TV along = TV.Broadcast(dot.Sum() * inverse * inverse / Dimension);
                for (int i = 0; i < Dimension; i += TV.Count)
                {
                    int left = Dimension - i;
                    TV normal = RowMath.LoadUpTo<TV>(x + i, left);
                    TV gradient = RowMath.LoadUpTo<TV>(dy + i, left);
                    RowMath.StoreUpTo(TV.MultiplyAdd(gradient * scale, normal, RowMath.LoadUpTo<TV>(weightSum + i, left)), weightSum + i, left);
                    TV across = TV.NegatedMultiplyAdd(normal, along, gradient * RowMath.LoadUpTo<TV>(Weight + i, left));
                    InputGradient.Write(scale * across, (row * Dimension) + i, left);
                }
            }
        }
    }
}
