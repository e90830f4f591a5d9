using ExactFlow.Tensors;
using ExactFlow.Tensors.Memory;
using ExactFlow.Tensors.Parallel;

namespace ExactFlow.Operators;

/// <summary>
/// Sums over rows in a fixed order: the gradient of anything that was broadcast over rows (biases, norm weights, convolution weights).
/// First per block of <see cref="FixedBlocks"/>, then over the blocks.
/// </summary>
internal static unsafe class RowSums
{
    /// <summary>result[d] (+)= sum over rows r of x[r, d].</summary>
    public static void Run(CpuDevice device, Tensor x, Tensor result, bool accumulate)
    {
        int dimension = x.Shape[^1];
        FixedBlocks blocks = FixedBlocks.ForSums(x.Shape.RowCount(), dimension);
        using var partial = new Scratch(device, (long)blocks.Count * dimension * sizeof(float));
        device.Workers.For(blocks.Count, new PartialBody { Blocks = blocks, Dimension = dimension, X = x.Floats, Partial = partial.Floats });
        Fold(partial.Floats, blocks.Count, dimension, result.Floats, accumulate);
    }

    /// <summary>result[d] (+)= sum over blocks b, in order, of partial[b, d].</summary>
    public static void Fold(float* partial, int blocks, int dimension, float* result, bool accumulate, long stride = 0)
    {
        long step = stride == 0 ? dimension : stride;
        for (int i = 0; i < dimension; i++)
        {
            float sum = 0;
            for (int block = 0; block < blocks; block++)
            {
                sum += partial[(block * step) + i];
            }

            result[i] = accumulate ? result[i] + sum : sum;
        }
    }

    private struct PartialBody : IParallelBody
    {
        public FixedBlocks Blocks;
        public int Dimension;
        public float* X;
        public float* Partial;

        public readonly void Run(int index, int worker)
        {
            float* sum = Partial + ((long)index * Dimension);
            new Span<float>(sum, Dimension).Clear();
            for (long row = Blocks.Start(index); row < Blocks.End(index); row++)
            {
                float* x = X + (row * Dimension);
                for (int i = 0; i < Dimension; i++)
                {
                    sum[i] += x[i];
                }
            }
        }
    }
}
