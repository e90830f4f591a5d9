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
            TV scale = TV.Broadcast(1 / MathF.Sqrt(RowMath.SumOfSquares<TV>(X + start, Dimension) + Epsilon));
            int i = 0;
            for (; i + TV.Count <= Dimension; i += TV.Count)
            {
                Step<TV, WholeVector>(start + i, scale, TV.Count);
            }

            if (i < Dimension)
            {
                Step<TV, FirstLanes>(start + i, scale, Dimension - i);
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private readonly void Step<TV, TLanes>(long position, TV scale, int count)
            where TV : struct, IFloatVector<TV>
            where TLanes : struct, ILanes
            => TLanes.Store(TLanes.Load<TV>(X + position, count) * scale, Y + position, count);
    }

    private struct BackwardBody : IVectorBody
    {
        public FixedBlocks Blocks;
        public int Dimension;
        public float Epsilon;
        public float* X;
        public float* OutputGradient;
        public GradientTarget InputGradient;

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
            float inverse = 1 / MathF.Sqrt(RowMath.SumOfSquares<TV>(X + start, Dimension) + Epsilon);
            TV scale = TV.Broadcast(inverse);
            TV along = TV.Broadcast(RowMath.Dot<TV>(X + start, OutputGradient + start, Dimension) * inverse * inverse);
            int i = 0;
            for (; i + TV.Count <= Dimension; i += TV.Count)
            {
                Step<TV, WholeVector>(start + i, scale, along, TV.Count);
            }

            if (i < Dimension)
            {
                Step<TV, FirstLanes>(start + i, scale, along, Dimension - i);
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private readonly void Step<TV, TLanes>(long position, TV scale, TV along, int count)
            where TV : struct, IFloatVector<TV>
            where TLanes : struct, ILanes
        {
            TV across = TV.NegatedMultiplyAdd(TLanes.Load<TV>(X + position, count), along, TLanes.Load<TV>(OutputGradient + position, count));
            InputGradient.Write<TV, TLanes>(scale * across, position, count);
        }
    }
}
