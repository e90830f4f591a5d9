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

        public readonly void Run<TV>(int index, int worker)
            where TV : struct, IFloatVector<TV>
        {
            for (long row = Blocks.Start(index); row < Blocks.End(index); row++)
            {
                RunRow<TV>(row * Dimension);
            }
        }

        [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
        private readonly void RunRow<TV>(long start)
            where TV : struct, IFloatVector<TV>
        {
            TV scale = TV.Broadcast(1 / MathF.Sqrt((RowMath.SumOfSquares<TV>(X + start, Dimension) / Dimension) + Epsilon));
            int i = 0;
            for (; i + TV.Count <= Dimension; i += TV.Count)
            {
                Step<TV, WholeVector>(start, i, scale, TV.Count);
            }

            if (i < Dimension)
            {
                Step<TV, FirstLanes>(start, i, scale, Dimension - i);
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private readonly void Step<TV, TLanes>(long start, int i, TV scale, int count)
            where TV : struct, IFloatVector<TV>
            where TLanes : struct, ILanes
            => TLanes.Store(TLanes.Load<TV>(X + start + i, count) * scale * TLanes.Load<TV>(Weight + i, count), Y + start + i, count);
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

        public readonly void Run<TV>(int index, int worker)
            where TV : struct, IFloatVector<TV>
        {
            float* weightSum = WeightPartial + ((long)index * Dimension);
            new Span<float>(weightSum, Dimension).Clear();
            for (long row = Blocks.Start(index); row < Blocks.End(index); row++)
            {
                RunRow<TV>(row * Dimension, weightSum);
            }
        }

        [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
        private readonly void RunRow<TV>(long start, float* weightSum)
            where TV : struct, IFloatVector<TV>
        {
            float inverse = 1 / MathF.Sqrt((RowMath.SumOfSquares<TV>(X + start, Dimension) / Dimension) + Epsilon);
            float dot = RowMath.WeightedDot<TV>(Weight, OutputGradient + start, X + start, Dimension);
            TV scale = TV.Broadcast(inverse);
            TV along = TV.Broadcast(dot * inverse * inverse / Dimension);
            int i = 0;
            for (; i + TV.Count <= Dimension; i += TV.Count)
            {
                Step<TV, WholeVector>(start, i, weightSum, scale, along, TV.Count);
            }

            if (i < Dimension)
            {
                Step<TV, FirstLanes>(start, i, weightSum, scale, along, Dimension - i);
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private readonly void Step<TV, TLanes>(long start, int i, float* weightSum, TV scale, TV along, int count)
            where TV : struct, IFloatVector<TV>
            where TLanes : struct, ILanes
        {
            TV x = TLanes.Load<TV>(X + start + i, count);
            TV dy = TLanes.Load<TV>(OutputGradient + start + i, count);
            TLanes.Store(TV.MultiplyAdd(dy * scale, x, TLanes.Load<TV>(weightSum + i, count)), weightSum + i, count);
            TV across = TV.NegatedMultiplyAdd(x, along, dy * TLanes.Load<TV>(Weight + i, count));
            InputGradient.Write<TV, TLanes>(scale * across, start + i, count);
        }
    }
}
