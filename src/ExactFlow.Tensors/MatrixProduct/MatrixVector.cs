using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics.X86;
using ExactFlow.Tensors.Parallel;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Tensors.MatrixProduct;

/// <summary>
/// Few rows of A times a transposed B, as in decoding, where B is a weight [outputs, inputs]: every element of C is a dot product of two contiguous rows,
/// B is read exactly once, in order, and its bytes are the whole cost.
/// </summary>
internal static unsafe class MatrixVector
{
    /// <summary>The most rows of A: beyond, a weight is used often enough to be packed.</summary>
    private const int LargestRows = 8;

    /// <summary>Bytes of B per task, at most: enough for the hardware prefetcher to get going, few enough for the end to be balanced.</summary>
    private const int TaskBytes = 256 << 10;

    /// <summary>
    /// Floats from what is read to what is asked for ahead: B is one stream over row after row, but the sums at the end of a row hold up its loads,
    /// and the hardware's own prefetching stops at every page.
    /// </summary>
    private const int Ahead = 2048;

    /// <summary>Whether the product is of this kind.</summary>
    public static bool Suits(in Operands operands) => operands.M <= LargestRows && operands.TransposeB && !operands.TransposeA && operands.K >= 16;

    /// <summary>Computes the product.</summary>
    public static void Run<TV, TEpilogue>(WorkerPool workers, in Operands operands, TEpilogue epilogue)
        where TV : struct, IFloatVector<TV>
        where TEpilogue : struct, IMatrixEpilogue
    {
        int height = operands.M == 1 ? 1 : operands.M <= 2 ? 2 : operands.M <= 4 ? 4 : 8;
        int steps = (operands.K + TV.Count - 1) / TV.Count;
        float* interleaved = PackingBuffer.Left((long)steps * height * TV.Count);
        Interleave<TV>(operands, height, interleaved);
        long wanted = Math.Clamp((long)operands.N * operands.K * sizeof(float) / 16, 16 << 10, TaskBytes);
        int rowsOfB = Math.Max(2, (int)(wanted / sizeof(float) / operands.K) / 2 * 2);
        workers.For((operands.N + rowsOfB - 1) / rowsOfB, new Task<TV, TEpilogue>(operands, epilogue, interleaved, height, rowsOfB));
    }

    /// <summary>
    /// The rows of A, vector by vector side by side and filled up with zeros: a stream beside that of B, instead of rows whose distance, often a power
    /// of two, makes them compete for the same lines of the first-level cache.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Interleave<TV>(in Operands operands, int height, float* destination)
        where TV : struct, IFloatVector<TV>
    {
        for (int p = 0; p < operands.K; p += TV.Count)
        {
            for (int i = 0; i < height; i++)
            {
                TV vector = i < operands.M ? TV.LoadPartial(operands.Left(i, p), Math.Min(TV.Count, operands.K - p)) : TV.Zero;
                vector.Store(destination);
                destination += TV.Count;
            }
        }
    }

    /// <summary>Asks for the two vectors that lie <see cref="Ahead"/> of this place. Past the end of B that does nothing.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Prefetch<TV>(float* place)
        where TV : struct, IFloatVector<TV>
    {
        if (Sse.IsSupported)
        {
            Sse.Prefetch0(place + Ahead);
            Sse.Prefetch0(place + Ahead + TV.Count);
        }
    }

    /// <summary>A row of B times one row, in four chains.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Dots1<TV>(int k, float* a, float* b, float* sums)
        where TV : struct, IFloatVector<TV>
    {
        TV c0 = TV.Zero;
        TV d0 = TV.Zero;
        TV e0 = TV.Zero;
        TV f0 = TV.Zero;
        int p = 0;
        for (; p + (4 * TV.Count) <= k; p += 4 * TV.Count)
        {
            Prefetch<TV>(b + p);
            Prefetch<TV>(b + p + (2 * TV.Count));
            c0 = TV.MultiplyAdd(TV.Load(b + p), TV.Load(a), c0);
            d0 = TV.MultiplyAdd(TV.Load(b + p + TV.Count), TV.Load(a + TV.Count), d0);
            e0 = TV.MultiplyAdd(TV.Load(b + p + (2 * TV.Count)), TV.Load(a + (2 * TV.Count)), e0);
            f0 = TV.MultiplyAdd(TV.Load(b + p + (3 * TV.Count)), TV.Load(a + (3 * TV.Count)), f0);
            a += 4 * TV.Count;
        }

        for (; p < k; p += TV.Count)
        {
            TV rest = TV.LoadPartial(b + p, Math.Min(TV.Count, k - p));
            c0 = TV.MultiplyAdd(rest, TV.Load(a), c0);
            a += TV.Count;
        }

        sums[0] = ((c0 + d0) + (e0 + f0)).Sum();
    }

    /// <summary>A row of B times two interleaved rows, in two chains each.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Dots2<TV>(int k, float* a, float* b, float* sums)
        where TV : struct, IFloatVector<TV>
    {
        TV c0 = TV.Zero, c1 = TV.Zero;
        TV d0 = TV.Zero, d1 = TV.Zero;
        int p = 0;
        for (; p + (2 * TV.Count) <= k; p += 2 * TV.Count)
        {
            Prefetch<TV>(b + p);
            TV x = TV.Load(b + p);
            TV y = TV.Load(b + p + TV.Count);
            c0 = TV.MultiplyAdd(x, TV.Load(a), c0);
            c1 = TV.MultiplyAdd(x, TV.Load(a + TV.Count), c1);
            d0 = TV.MultiplyAdd(y, TV.Load(a + (2 * TV.Count)), d0);
            d1 = TV.MultiplyAdd(y, TV.Load(a + (3 * TV.Count)), d1);
            a += 4 * TV.Count;
        }

        for (; p < k; p += TV.Count)
        {
            TV rest = TV.LoadPartial(b + p, Math.Min(TV.Count, k - p));
            c0 = TV.MultiplyAdd(rest, TV.Load(a), c0);
            c1 = TV.MultiplyAdd(rest, TV.Load(a + TV.Count), c1);
            a += 2 * TV.Count;
        }

        sums[0] = (c0 + d0).Sum();
        sums[1] = (c1 + d1).Sum();
    }

    /// <summary>Two rows of B times four interleaved rows, which are loaded once for both; the sums of the second row follow those of the first.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Dots4<TV>(int k, float* a, float* b, nint ldb, float* sums)
        where TV : struct, IFloatVector<TV>
    {
        float* next = b + ldb;
        TV c0 = TV.Zero, c1 = TV.Zero, c2 = TV.Zero, c3 = TV.Zero;
        TV d0 = TV.Zero, d1 = TV.Zero, d2 = TV.Zero, d3 = TV.Zero;
        int p = 0;
        for (; p + TV.Count <= k; p += TV.Count)
        {
            TV x = TV.Load(b + p);
            TV y = TV.Load(next + p);
            TV left = TV.Load(a);
            c0 = TV.MultiplyAdd(x, left, c0);
            d0 = TV.MultiplyAdd(y, left, d0);
            left = TV.Load(a + TV.Count);
            c1 = TV.MultiplyAdd(x, left, c1);
            d1 = TV.MultiplyAdd(y, left, d1);
            left = TV.Load(a + (2 * TV.Count));
            c2 = TV.MultiplyAdd(x, left, c2);
            d2 = TV.MultiplyAdd(y, left, d2);
            left = TV.Load(a + (3 * TV.Count));
            c3 = TV.MultiplyAdd(x, left, c3);
            d3 = TV.MultiplyAdd(y, left, d3);
            a += 4 * TV.Count;
        }

        if (p < k)
        {
            TV x = TV.LoadPartial(b + p, k - p);
            TV y = TV.LoadPartial(next + p, k - p);
            TV left = TV.Load(a);
            c0 = TV.MultiplyAdd(x, left, c0);
            d0 = TV.MultiplyAdd(y, left, d0);
            left = TV.Load(a + TV.Count);
            c1 = TV.MultiplyAdd(x, left, c1);
            d1 = TV.MultiplyAdd(y, left, d1);
            left = TV.Load(a + (2 * TV.Count));
            c2 = TV.MultiplyAdd(x, left, c2);
            d2 = TV.MultiplyAdd(y, left, d2);
            left = TV.Load(a + (3 * TV.Count));
            c3 = TV.MultiplyAdd(x, left, c3);
            d3 = TV.MultiplyAdd(y, left, d3);
        }

        sums[0] = c0.Sum();
        sums[1] = c1.Sum();
        sums[2] = c2.Sum();
        sums[3] = c3.Sum();
        sums[4] = d0.Sum();
        sums[5] = d1.Sum();
        sums[6] = d2.Sum();
        sums[7] = d3.Sum();
    }

    /// <summary>Two rows of B times eight interleaved rows, which are loaded once for both; the sums of the second row follow those of the first.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Dots8<TV>(int k, float* a, float* b, nint ldb, float* sums)
        where TV : struct, IFloatVector<TV>
    {
        float* next = b + ldb;
        TV c0 = TV.Zero, c1 = TV.Zero, c2 = TV.Zero, c3 = TV.Zero, c4 = TV.Zero, c5 = TV.Zero, c6 = TV.Zero, c7 = TV.Zero;
        TV d0 = TV.Zero, d1 = TV.Zero, d2 = TV.Zero, d3 = TV.Zero, d4 = TV.Zero, d5 = TV.Zero, d6 = TV.Zero, d7 = TV.Zero;
        int p = 0;
        for (; p + TV.Count <= k; p += TV.Count)
        {
            TV x = TV.Load(b + p);
            TV y = TV.Load(next + p);
            TV left = TV.Load(a);
            c0 = TV.MultiplyAdd(x, left, c0);
            d0 = TV.MultiplyAdd(y, left, d0);
            left = TV.Load(a + TV.Count);
            c1 = TV.MultiplyAdd(x, left, c1);
            d1 = TV.MultiplyAdd(y, left, d1);
            left = TV.Load(a + (2 * TV.Count));
            c2 = TV.MultiplyAdd(x, left, c2);
            d2 = TV.MultiplyAdd(y, left, d2);
            left = TV.Load(a + (3 * TV.Count));
            c3 = TV.MultiplyAdd(x, left, c3);
            d3 = TV.MultiplyAdd(y, left, d3);
            left = TV.Load(a + (4 * TV.Count));
            c4 = TV.MultiplyAdd(x, left, c4);
            d4 = TV.MultiplyAdd(y, left, d4);
            left = TV.Load(a + (5 * TV.Count));
            c5 = TV.MultiplyAdd(x, left, c5);
            d5 = TV.MultiplyAdd(y, left, d5);
            left = TV.Load(a + (6 * TV.Count));
            c6 = TV.MultiplyAdd(x, left, c6);
            d6 = TV.MultiplyAdd(y, left, d6);
            left = TV.Load(a + (7 * TV.Count));
            c7 = TV.MultiplyAdd(x, left, c7);
            d7 = TV.MultiplyAdd(y, left, d7);
            a += 8 * TV.Count;
        }

        if (p < k)
        {
            TV x = TV.LoadPartial(b + p, k - p);
            TV y = TV.LoadPartial(next + p, k - p);
            TV left = TV.Load(a);
            c0 = TV.MultiplyAdd(x, left, c0);
            d0 = TV.MultiplyAdd(y, left, d0);
            left = TV.Load(a + TV.Count);
            c1 = TV.MultiplyAdd(x, left, c1);
            d1 = TV.MultiplyAdd(y, left, d1);
            left = TV.Load(a + (2 * TV.Count));
            c2 = TV.MultiplyAdd(x, left, c2);
            d2 = TV.MultiplyAdd(y, left, d2);
            left = TV.Load(a + (3 * TV.Count));
            c3 = TV.MultiplyAdd(x, left, c3);
            d3 = TV.MultiplyAdd(y, left, d3);
            left = TV.Load(a + (4 * TV.Count));
            c4 = TV.MultiplyAdd(x, left, c4);
            d4 = TV.MultiplyAdd(y, left, d4);
            left = TV.Load(a + (5 * TV.Count));
            c5 = TV.MultiplyAdd(x, left, c5);
            d5 = TV.MultiplyAdd(y, left, d5);
            left = TV.Load(a + (6 * TV.Count));
            c6 = TV.MultiplyAdd(x, left, c6);
            d6 = TV.MultiplyAdd(y, left, d6);
            left = TV.Load(a + (7 * TV.Count));
            c7 = TV.MultiplyAdd(x, left, c7);
            d7 = TV.MultiplyAdd(y, left, d7);
        }

        sums[0] = c0.Sum();
        sums[1] = c1.Sum();
        sums[2] = c2.Sum();
        sums[3] = c3.Sum();
        sums[4] = c4.Sum();
        sums[5] = c5.Sum();
        sums[6] = c6.Sum();
        sums[7] = c7.Sum();
        sums[8] = d0.Sum();
        sums[9] = d1.Sum();
        sums[10] = d2.Sum();
        sums[11] = d3.Sum();
        sums[12] = d4.Sum();
        sums[13] = d5.Sum();
        sums[14] = d6.Sum();
        sums[15] = d7.Sum();
    }

    private readonly struct Task<TV, TEpilogue>(Operands operands, TEpilogue epilogue, float* interleaved, int height, int rowsOfB) : IParallelBody
        where TV : struct, IFloatVector<TV>
        where TEpilogue : struct, IMatrixEpilogue
    {
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public void Run(int index, int worker)
        {
            int first = index * rowsOfB;
            int end = Math.Min(first + rowsOfB, operands.N);
            if (height <= 2)
            {
                OneByOne(first, end);
            }
            else
            {
                InPairs(first, end);
            }

            if (!TEpilogue.IsEmpty)
            {
                epilogue.Apply<TV>(operands.Result(0, first), operands.Ldc, 0, first, operands.M, end - first);
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private void OneByOne(int first, int end)
        {
            float* sums = stackalloc float[2];
            for (int j = first; j < end; j++)
            {
                if (height == 1)
                {
                    Dots1<TV>(operands.K, interleaved, operands.Right(0, j), sums);
                }
                else
                {
                    Dots2<TV>(operands.K, interleaved, operands.Right(0, j), sums);
                }

                Write(j, sums);
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private void InPairs(int first, int end)
        {
            float* sums = stackalloc float[2 * LargestRows];
            for (int j = first; j < end; j += 2)
            {
                // A last row of B without a partner is taken twice.
                bool isPair = j + 1 < end;
                nint distance = isPair ? operands.Ldb : 0;
                if (height == 4)
                {
                    Dots4<TV>(operands.K, interleaved, operands.Right(0, j), distance, sums);
                }
                else
                {
                    Dots8<TV>(operands.K, interleaved, operands.Right(0, j), distance, sums);
                }

                Write(j, sums);
                if (isPair)
                {
                    Write(j + 1, sums + height);
                }
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private void Write(int column, float* sums)
        {
            for (int i = 0; i < operands.M; i++)
            {
                float* c = operands.Result(i, column);
                float value = operands.Alpha * sums[i];
                *c = operands.Accumulate ? *c + value : value;
            }
        }
    }
}
