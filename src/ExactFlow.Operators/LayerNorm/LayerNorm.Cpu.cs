using System.Runtime.CompilerServices;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Memory;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Operators;

public static unsafe partial class LayerNorm
{
    private static void Forward(CpuDevice device, Tensor x, Tensor weight, Tensor bias, float epsilon, Tensor y)
    {
        int dimension = x.Shape[^1];
        FixedBlocks blocks = FixedBlocks.ForMap(x.Shape.RowCount(), dimension);
        Simd.For(
            device.Workers,
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
                Partial = partial.Floats,
            });
        if (weightGradient.IsWanted)
        {
            RowSums.Fold(device, partial.Floats, blocks.Count, 2L * dimension, dimension, weightGradient.Address, weightGradient.Accumulate);
        }

        if (biasGradient.IsWanted)
        {
            RowSums.Fold(device, partial.Floats + dimension, blocks.Count, 2L * dimension, dimension, biasGradient.Address, biasGradient.Accumulate);
        }
    }

    /// <summary>Two passes over a row in the first-level cache: the difference of mean square and squared mean would cancel.</summary>
    private static (float Mean, float Inverse) Moments<TV>(float* x, int dimension, float epsilon)
        where TV : struct, IFloatVector<TV>
    {
        float mean = RowMath.Sum<TV>(x, dimension) / dimension;
        return (mean, 1 / MathF.Sqrt((RowMath.SumOfSquaredDifferences<TV>(x, mean, dimension) / dimension) + epsilon));
    }

    private struct ForwardBody : IVectorBody
    {
        public FixedBlocks Blocks;
        public int Dimension;
        public float Epsilon;
        public float* X;
        public float* Weight;
        public float* Bias;
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
            (float mean, float inverse) = Moments<TV>(X + start, Dimension, Epsilon);
            TV center = TV.Broadcast(mean);
            TV scale = TV.Broadcast(inverse);
            int i = 0;
            for (; i + TV.Count <= Dimension; i += TV.Count)
            {
                Step<TV, WholeVector>(start, i, center, scale, TV.Count);
            }

            if (i < Dimension)
            {
                Step<TV, FirstLanes>(start, i, center, scale, Dimension - i);
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private readonly void Step<TV, TLanes>(long start, int i, TV center, TV scale, int count)
            where TV : struct, IFloatVector<TV>
            where TLanes : struct, ILanes
        {
            TV normal = (TLanes.Load<TV>(X + start + i, count) - center) * scale;
            TLanes.Store(TV.MultiplyAdd(normal, TLanes.Load<TV>(Weight + i, count), TLanes.Load<TV>(Bias + i, count)), Y + start + i, count);
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
        public float* Partial;

        public readonly void Run<TV>(int index, int worker)
            where TV : struct, IFloatVector<TV>
        {
            float* weightSum = Partial + (2L * index * Dimension);
            float* biasSum = weightSum + Dimension;
            new Span<float>(weightSum, 2 * Dimension).Clear();
            for (long row = Blocks.Start(index); row < Blocks.End(index); row++)
            {
                long start = row * Dimension;
                (float mean, float inverse) = Moments<TV>(X + start, Dimension, Epsilon);
                AddToSums<TV>(start, weightSum, biasSum, mean, inverse);
                if (InputGradient.IsWanted)
                {
                    WriteInputGradient<TV>(start, mean, inverse);
                }
            }
        }

        [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
        private readonly void AddToSums<TV>(long start, float* weightSum, float* biasSum, float mean, float inverse)
            where TV : struct, IFloatVector<TV>
        {
            TV center = TV.Broadcast(mean);
            TV scale = TV.Broadcast(inverse);
            int i = 0;
            for (; i + TV.Count <= Dimension; i += TV.Count)
            {
                SumStep<TV, WholeVector>(start, i, weightSum, biasSum, center, scale, TV.Count);
            }

            if (i < Dimension)
            {
                SumStep<TV, FirstLanes>(start, i, weightSum, biasSum, center, scale, Dimension - i);
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private readonly void SumStep<TV, TLanes>(long start, int i, float* weightSum, float* biasSum, TV center, TV scale, int count)
            where TV : struct, IFloatVector<TV>
            where TLanes : struct, ILanes
        {
            TV normal = (TLanes.Load<TV>(X + start + i, count) - center) * scale;
            TV dy = TLanes.Load<TV>(OutputGradient + start + i, count);
            TLanes.Store(TV.MultiplyAdd(dy, normal, TLanes.Load<TV>(weightSum + i, count)), weightSum + i, count);
            TLanes.Store(dy + TLanes.Load<TV>(biasSum + i, count), biasSum + i, count);
        }

        [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
        private readonly void WriteInputGradient<TV>(long start, float mean, float inverse)
            where TV : struct, IFloatVector<TV>
        {
            float sum = RowMath.Dot<TV>(Weight, OutputGradient + start, Dimension);
            float dot = RowMath.WeightedDotOfDifferences<TV>(Weight, OutputGradient + start, X + start, mean, Dimension);
            TV center = TV.Broadcast(mean);
            TV scale = TV.Broadcast(inverse);
            TV meanGradient = TV.Broadcast(sum / Dimension);
            TV along = TV.Broadcast(dot * inverse * inverse / Dimension);
            int i = 0;
            for (; i + TV.Count <= Dimension; i += TV.Count)
            {
                GradientStep<TV, WholeVector>(start, i, center, scale, meanGradient, along, TV.Count);
            }

            if (i < Dimension)
            {
                GradientStep<TV, FirstLanes>(start, i, center, scale, meanGradient, along, Dimension - i);
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private readonly void GradientStep<TV, TLanes>(long start, int i, TV center, TV scale, TV meanGradient, TV along, int count)
            where TV : struct, IFloatVector<TV>
            where TLanes : struct, ILanes
        {
            TV difference = TLanes.Load<TV>(X + start + i, count) - center;
            TV weighted = TLanes.Load<TV>(OutputGradient + start + i, count) * TLanes.Load<TV>(Weight + i, count);
            InputGradient.Write<TV, TLanes>(scale * TV.NegatedMultiplyAdd(difference, along, weighted - meanGradient), start + i, count);
        }
    }
}
