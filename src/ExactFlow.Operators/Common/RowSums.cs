using System.Runtime.CompilerServices;
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

        /// <summary>Four rows at a time, so that the sums are read and written once for four.</summary>
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public readonly void Run<TV>(int index, int worker)
            where TV : struct, IFloatVector<TV>
        {
            float* sum = Partial + ((long)index * Period);
            new Span<float>(sum, Period).Clear();
            long row = Blocks.Start(index);
            long end = Blocks.End(index);
            for (; row + 4 <= end && (row + 4) * Period <= Count; row += 4)
            {
                float* x = X + (row * Period);
                for (int i = 0; i < Period; i += TV.Count)
                {
                    int left = Period - i;
                    TV first = RowMath.LoadUpTo<TV>(x + i, left) + RowMath.LoadUpTo<TV>(x + Period + i, left);
                    TV second = RowMath.LoadUpTo<TV>(x + (2L * Period) + i, left) + RowMath.LoadUpTo<TV>(x + (3L * Period) + i, left);
                    RowMath.StoreUpTo(RowMath.LoadUpTo<TV>(sum + i, left) + (first + second), sum + i, left);
                }
            }

            for (; row < end; row++)
            {
                float* x = X + (row * Period);
                int length = (int)Math.Min(Period, Count - (row * Period));
                for (int i = 0; i < length; i += TV.Count)
                {
                    int left = length - i;
                    RowMath.StoreUpTo(RowMath.LoadUpTo<TV>(sum + i, left) + RowMath.LoadUpTo<TV>(x + i, left), sum + i, left);
                }
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

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public readonly void Run<TV>(int index, int worker)
            where TV : struct, IFloatVector<TV>
        {
            int end = Math.Min(Count, (index + 1) * ColumnsPerIndex);
            int i = index * ColumnsPerIndex;
            for (; i + (4 * TV.Count) <= end; i += 4 * TV.Count)
            {
                TV a = TV.Zero, b = TV.Zero, c = TV.Zero, d = TV.Zero;
                float* source = Partial + i;
                for (int block = 0; block < Blocks; block++, source += Stride)
                {
                    a += TV.Load(source);
                    b += TV.Load(source + TV.Count);
                    c += TV.Load(source + (2 * TV.Count));
                    d += TV.Load(source + (3 * TV.Count));
                }

                Write(a, i, TV.Count);
                Write(b, i + TV.Count, TV.Count);
                Write(c, i + (2 * TV.Count), TV.Count);
                Write(d, i + (3 * TV.Count), TV.Count);
            }

            for (; i < end; i += TV.Count)
            {
                TV sum = TV.Zero;
                float* source = Partial + i;
                for (int block = 0; block < Blocks; block++, source += Stride)
                {
                    sum += RowMath.LoadUpTo<TV>(source, end - i);
                }

                Write(sum, i, end - i);
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private readonly void Write<TV>(TV value, int position, int count)
            where TV : struct, IFloatVector<TV>
        {
            float* target = Result + position;
            RowMath.StoreUpTo(Accumulate ? RowMath.LoadUpTo<TV>(target, count) + value : value, target, count);
        }
    }
}
