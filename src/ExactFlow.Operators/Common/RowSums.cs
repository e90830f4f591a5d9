using ExactFlow.Tensors;
using ExactFlow.Tensors.Memory;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Operators;

/// <summary>
/// Sums over rows in a fixed order: the gradient of anything that was broadcast over rows (biases, norm weights, convolution weights).
/// First per block of <see cref="FixedBlocks"/>, then over the blocks.
/// </summary>
internal static unsafe class RowSums
{
    /// <summary>Columns that one index of the final sum works on.</summary>
    private const int ColumnsPerIndex = 1024;

    /// <summary>result[d] (+)= sum over rows r of x[r, d].</summary>
    public static void Run(CpuDevice device, Tensor x, Tensor result, bool accumulate)
    {
        int dimension = x.Shape[^1];
        int period = Periodic.Length(dimension);
        FixedBlocks blocks = FixedBlocks.ForSums((x.Count + period - 1) / period, period);
        using var scratch = new Scratch(device, (blocks.Count + 1L) * period * sizeof(float));
        float* sums = scratch.Floats;
        float* partial = sums + period;
        Simd.For(device.Workers, blocks.Count, new PartialBody { Blocks = blocks, Period = period, Count = x.Count, X = x.Floats, Partial = partial });
        Fold(device, partial, blocks.Count, period, period, sums, accumulate: false);
        Periodic.Fold(sums, dimension, result.Floats, accumulate);
    }

    /// <summary>result[i] (+)= sum over blocks b, in order, of partial[b * stride + i], for i in [0, count).</summary>
    public static void Fold(CpuDevice device, float* partial, int blocks, long stride, int count, float* result, bool accumulate)
        => Simd.For(
            device.Workers,
            (count + ColumnsPerIndex - 1) / ColumnsPerIndex,
            new FoldBody { Partial = partial, Blocks = blocks, Stride = stride, Count = count, Result = result, Accumulate = accumulate });

    private struct PartialBody : IVectorBody
    {
        public FixedBlocks Blocks;
        public int Period;
        public long Count;
        public float* X;
        public float* Partial;

        public readonly void Run<TV>(int index, int worker)
            where TV : struct, IFloatVector<TV>
        {
            float* sum = Partial + ((long)index * Period);
            new Span<float>(sum, Period).Clear();
            long row = Blocks.Start(index);
            long end = Blocks.End(index);
            for (; row + 4 <= end && (row + 4) * Period <= Count; row += 4)
            {
                RowMath.AddFourTo<TV>(X + (row * Period), Period, sum, Period);
            }

            for (; row < end; row++)
            {
                RowMath.AddTo<TV>(X + (row * Period), sum, (int)Math.Min(Period, Count - (row * Period)));
            }
        }
    }

    private struct FoldBody : IVectorBody
    {
        public float* Partial;
        public int Blocks;
        public long Stride;
        public int Count;
        public float* Result;
        public bool Accumulate;

        public readonly void Run<TV>(int index, int worker)
            where TV : struct, IFloatVector<TV>
        {
            int start = index * ColumnsPerIndex;
            int columns = Math.Min(Count - start, ColumnsPerIndex);
            float* result = Result + start;
            if (!Accumulate)
            {
                new Span<float>(result, columns).Clear();
            }

            int block = 0;
            for (; block + 4 <= Blocks; block += 4)
            {
                RowMath.AddFourTo<TV>(Partial + (block * Stride) + start, Stride, result, columns);
            }

            for (; block < Blocks; block++)
            {
                RowMath.AddTo<TV>(Partial + (block * Stride) + start, result, columns);
            }
        }
    }
}
