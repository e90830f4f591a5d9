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
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static (float Mean, float Inverse) Moments<TV>(float* x, int dimension, float epsilon)
        where TV : struct, IFloatVector<TV>
    {
        float mean = RowMath.Sum<TV>(x, dimension) / dimension;
        TV center = TV.Broadcast(mean);
        TV squares = TV.Zero;
        int i = 0;
        for (; i + TV.Count <= dimension; i += TV.Count)
        {
            TV difference = TV.Load(x + i) - center;
            squares = TV.MultiplyAdd(difference, difference, squares);
        }

        float sum = squares.Sum();
        for (; i < dimension; i++)
        {
            sum += (x[i] - mean) * (x[i] - mean);
        }

        return (mean, 1 / MathF.Sqrt((sum / dimension) + epsilon));
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

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public readonly void Run<TV>(int index, int worker)
            where TV : struct, IFloatVector<TV>
        {
            for (long row = Blocks.Start(index); row < Blocks.End(index); row++)
            {
                float* x = X + (row * Dimension);
                float* y = Y + (row * Dimension);
                (float mean, float inverse) = Moments<TV>(x, Dimension, Epsilon);
                TV center = TV.Broadcast(mean);
                TV scale = TV.Broadcast(inverse);
                for (int i = 0; i < Dimension; i += TV.Count)
                {
                    int left = Dimension - i;
                    TV normal = (RowMath.LoadUpTo<TV>(x + i, left) - center) * scale;
                    TV value = TV.MultiplyAdd(normal, RowMath.LoadUpTo<TV>(Weight + i, left), RowMath.LoadUpTo<TV>(Bias + i, left));
                    RowMath.StoreUpTo(value, y + i, left);
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
        public float* Partial;

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public readonly void Run<TV>(int index, int worker)
            where TV : struct, IFloatVector<TV>
        {
            float* weightSum = Partial + (2L * index * Dimension);
            float* biasSum = weightSum + Dimension;
            new Span<float>(weightSum, 2 * Dimension).Clear();
            for (long row = Blocks.Start(index); row < Blocks.End(index); row++)
            {
                float* x = X + (row * Dimension);
                float* dy = OutputGradient + (row * Dimension);
                (float mean, float inverse) = Moments<TV>(x, Dimension, Epsilon);
                TV center = TV.Broadcast(mean);
                TV scale = TV.Broadcast(inverse);
                TV sum = TV.Zero;
                TV dot = TV.Zero;
                for (int i = 0; i < Dimension; i += TV.Count)
                {
                    // Lanes past the end hold -mean as value but zeros as gradient, which is what they are multiplied with.
                    int left = Dimension - i;
                    TV normal = (RowMath.LoadUpTo<TV>(x + i, left) - center) * scale;
                    TV gradient = RowMath.LoadUpTo<TV>(dy + i, left);
                    RowMath.StoreUpTo(TV.MultiplyAdd(gradient, normal, RowMath.LoadUpTo<TV>(weightSum + i, left)), weightSum + i, left);
                    RowMath.StoreUpTo(gradient + RowMath.LoadUpTo<TV>(biasSum + i, left), biasSum + i, left);
                    TV weighted = gradient * RowMath.LoadUpTo<TV>(Weight + i, left);
                    sum += weighted;
                    dot = TV.MultiplyAdd(weighted, normal, dot);
                }

                TV meanGradient = TV.Broadcast(sum.Sum() / Dimension);
                TV along = TV.Broadcast(dot.Sum() / Dimension);
                for (int i = 0; InputGradient.IsWanted && i < Dimension; i += TV.Count)
                {
                    int left = Dimension - i;
                    TV normal = (RowMath.LoadUpTo<TV>(x + i, left) - center) * scale;
                    TV weighted = RowMath.LoadUpTo<TV>(dy + i, left) * RowMath.LoadUpTo<TV>(Weight + i, left);
                    TV across = TV.NegatedMultiplyAdd(normal, along, weighted - meanGradient);
                    InputGradient.Write(scale * across, (row * Dimension) + i, left);
                }
            }
        }
    }
}
