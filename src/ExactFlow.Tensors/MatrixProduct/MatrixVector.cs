using System.Runtime.CompilerServices;
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

    /// <summary>Bytes of B per task: a few pages, so that the hardware prefetcher gets going and the end is balanced.</summary>
    private const int TaskBytes = 256 << 10;

    /// <summary>Whether the product is of this kind.</summary>
    public static bool Suits(in Operands operands) => operands.M <= LargestRows && operands.TransposeB && !operands.TransposeA && operands.K >= 16;

    /// <summary>Computes the product.</summary>
    public static void Run<TV, TEpilogue>(WorkerPool workers, in Operands operands, TEpilogue epilogue)
        where TV : struct, IFloatVector<TV>
        where TEpilogue : struct, IMatrixEpilogue
    {
        int rowsOfB = Math.Max(4, TaskBytes / sizeof(float) / operands.K / 4 * 4);
        workers.For((operands.N + rowsOfB - 1) / rowsOfB, new Task<TV, TEpilogue>(operands, epilogue, rowsOfB));
    }

    /// <summary>Four dot products of one row of A with rows of B, each in two chains.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Dot4<TV>(int k, float* a, float* b, nint ldb, float* sums)
        where TV : struct, IFloatVector<TV>
    {
        float* b3 = b + (3 * ldb);
        TV c0 = TV.Zero, c1 = TV.Zero, c2 = TV.Zero, c3 = TV.Zero;
        TV d0 = TV.Zero, d1 = TV.Zero, d2 = TV.Zero, d3 = TV.Zero;
        int p = 0;
        for (; p + (2 * TV.Count) <= k; p += 2 * TV.Count)
        {
            TV x = TV.Load(a + p);
            TV y = TV.Load(a + p + TV.Count);
            c0 = TV.MultiplyAdd(TV.Load(b), x, c0);
            d0 = TV.MultiplyAdd(TV.Load(b + TV.Count), y, d0);
            c1 = TV.MultiplyAdd(TV.Load(b + ldb), x, c1);
            d1 = TV.MultiplyAdd(TV.Load(b + ldb + TV.Count), y, d1);
            c2 = TV.MultiplyAdd(TV.Load(b + (2 * ldb)), x, c2);
            d2 = TV.MultiplyAdd(TV.Load(b + (2 * ldb) + TV.Count), y, d2);
            c3 = TV.MultiplyAdd(TV.Load(b3), x, c3);
            d3 = TV.MultiplyAdd(TV.Load(b3 + TV.Count), y, d3);
            b += 2 * TV.Count;
            b3 += 2 * TV.Count;
        }

        for (; p < k; p += TV.Count)
        {
            int lanes = Math.Min(TV.Count, k - p);
            TV x = TV.LoadPartial(a + p, lanes);
            c0 = TV.MultiplyAdd(TV.LoadPartial(b, lanes), x, c0);
            c1 = TV.MultiplyAdd(TV.LoadPartial(b + ldb, lanes), x, c1);
            c2 = TV.MultiplyAdd(TV.LoadPartial(b + (2 * ldb), lanes), x, c2);
            c3 = TV.MultiplyAdd(TV.LoadPartial(b3, lanes), x, c3);
            b += TV.Count;
            b3 += TV.Count;
        }

        sums[0] = (c0 + d0).Sum();
        sums[1] = (c1 + d1).Sum();
        sums[2] = (c2 + d2).Sum();
        sums[3] = (c3 + d3).Sum();
    }

    private readonly struct Task<TV, TEpilogue>(Operands operands, TEpilogue epilogue, int rowsOfB) : IParallelBody
        where TV : struct, IFloatVector<TV>
        where TEpilogue : struct, IMatrixEpilogue
    {
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public void Run(int index, int worker)
        {
            float* sums = stackalloc float[4];
            int first = index * rowsOfB;
            int end = Math.Min(first + rowsOfB, operands.N);
            for (int j = first; j < end; j += 4)
            {
                // Past the last row of B, that row is taken again (stride 0) and the sums are dropped: every sum has the same order.
                int count = Math.Min(4, end - j);
                for (int i = 0; i < operands.M; i++)
                {
                    if (count == 4)
                    {
                        Dot4<TV>(operands.K, operands.Left(i, 0), operands.Right(0, j), operands.Ldb, sums);
                        Write(i, j, 4, sums);
                        continue;
                    }

                    for (int rest = 0; rest < count; rest++)
                    {
                        Dot4<TV>(operands.K, operands.Left(i, 0), operands.Right(0, j + rest), 0, sums);
                        Write(i, j + rest, 1, sums);
                    }
                }
            }

            if (!TEpilogue.IsEmpty)
            {
                epilogue.Apply<TV>(operands.Result(0, first), operands.Ldc, 0, first, operands.M, end - first);
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private void Write(int row, int column, int count, float* sums)
        {
            float* c = operands.Result(row, column);
            for (int j = 0; j < count; j++)
            {
                float value = operands.Alpha * sums[j];
                c[j] = operands.Accumulate ? c[j] + value : value;
            }
        }
    }
}
