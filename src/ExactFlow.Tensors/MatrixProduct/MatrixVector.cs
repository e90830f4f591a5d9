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
        long wanted = Math.Clamp((long)operands.N * operands.K * sizeof(float) / 16, 16 << 10, TaskBytes);
        int rowsOfB = Math.Max(1, (int)(wanted / sizeof(float) / operands.K));
        workers.For((operands.N + rowsOfB - 1) / rowsOfB, new Task<TV, TEpilogue>(operands, epilogue, rowsOfB));
    }

    /// <summary>A row of B times one row of A, in four chains.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Dot1<TV>(int k, float* a, float* b, float* sums)
        where TV : struct, IFloatVector<TV>
    {
        TV c0 = TV.Zero, c1 = TV.Zero, c2 = TV.Zero, c3 = TV.Zero;
        int p = 0;
        for (; p + (4 * TV.Count) <= k; p += 4 * TV.Count)
        {
            c0 = TV.MultiplyAdd(TV.Load(b + p), TV.Load(a + p), c0);
            c1 = TV.MultiplyAdd(TV.Load(b + p + TV.Count), TV.Load(a + p + TV.Count), c1);
            c2 = TV.MultiplyAdd(TV.Load(b + p + (2 * TV.Count)), TV.Load(a + p + (2 * TV.Count)), c2);
            c3 = TV.MultiplyAdd(TV.Load(b + p + (3 * TV.Count)), TV.Load(a + p + (3 * TV.Count)), c3);
        }

        for (; p < k; p += TV.Count)
        {
            int lanes = Math.Min(TV.Count, k - p);
            c0 = TV.MultiplyAdd(TV.LoadPartial(b + p, lanes), TV.LoadPartial(a + p, lanes), c0);
        }

        sums[0] = ((c0 + c1) + (c2 + c3)).Sum();
    }

    /// <summary>A row of B times two rows of A, in two chains each.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Dot2<TV>(int k, float* a, nint lda, float* b, float* sums)
        where TV : struct, IFloatVector<TV>
    {
        float* a1 = a + lda;
        TV c0 = TV.Zero, c1 = TV.Zero, d0 = TV.Zero, d1 = TV.Zero;
        int p = 0;
        for (; p + (2 * TV.Count) <= k; p += 2 * TV.Count)
        {
            TV x = TV.Load(b + p);
            TV y = TV.Load(b + p + TV.Count);
            c0 = TV.MultiplyAdd(x, TV.Load(a + p), c0);
            c1 = TV.MultiplyAdd(x, TV.Load(a1 + p), c1);
            d0 = TV.MultiplyAdd(y, TV.Load(a + p + TV.Count), d0);
            d1 = TV.MultiplyAdd(y, TV.Load(a1 + p + TV.Count), d1);
        }

        for (; p < k; p += TV.Count)
        {
            int lanes = Math.Min(TV.Count, k - p);
            TV x = TV.LoadPartial(b + p, lanes);
            c0 = TV.MultiplyAdd(x, TV.LoadPartial(a + p, lanes), c0);
            c1 = TV.MultiplyAdd(x, TV.LoadPartial(a1 + p, lanes), c1);
        }

        sums[0] = (c0 + d0).Sum();
        sums[1] = (c1 + d1).Sum();
    }

    /// <summary>A row of B times four rows of A, in two chains each.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Dot4<TV>(int k, float* a, nint lda, float* b, float* sums)
        where TV : struct, IFloatVector<TV>
    {
        float* a1 = a + lda;
        float* a2 = a1 + lda;
        float* a3 = a2 + lda;
        TV c0 = TV.Zero, c1 = TV.Zero, c2 = TV.Zero, c3 = TV.Zero;
        TV d0 = TV.Zero, d1 = TV.Zero, d2 = TV.Zero, d3 = TV.Zero;
        int p = 0;
        for (; p + (2 * TV.Count) <= k; p += 2 * TV.Count)
        {
            TV x = TV.Load(b + p);
            TV y = TV.Load(b + p + TV.Count);
            c0 = TV.MultiplyAdd(x, TV.Load(a + p), c0);
            c1 = TV.MultiplyAdd(x, TV.Load(a1 + p), c1);
            c2 = TV.MultiplyAdd(x, TV.Load(a2 + p), c2);
            c3 = TV.MultiplyAdd(x, TV.Load(a3 + p), c3);
            d0 = TV.MultiplyAdd(y, TV.Load(a + p + TV.Count), d0);
            d1 = TV.MultiplyAdd(y, TV.Load(a1 + p + TV.Count), d1);
            d2 = TV.MultiplyAdd(y, TV.Load(a2 + p + TV.Count), d2);
            d3 = TV.MultiplyAdd(y, TV.Load(a3 + p + TV.Count), d3);
        }

        for (; p < k; p += TV.Count)
        {
            int lanes = Math.Min(TV.Count, k - p);
            TV x = TV.LoadPartial(b + p, lanes);
            c0 = TV.MultiplyAdd(x, TV.LoadPartial(a + p, lanes), c0);
            c1 = TV.MultiplyAdd(x, TV.LoadPartial(a1 + p, lanes), c1);
            c2 = TV.MultiplyAdd(x, TV.LoadPartial(a2 + p, lanes), c2);
            c3 = TV.MultiplyAdd(x, TV.LoadPartial(a3 + p, lanes), c3);
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
            Operands local = operands;
            float* sums = stackalloc float[LargestRows];
            int first = index * rowsOfB;
            int end = Math.Min(first + rowsOfB, local.N);
            for (int j = first; j < end; j++)
            {
                // Groups of rows of A: the row of B comes from memory for the first group and from the cache for the others.
                float* b = local.Right(0, j);
                int i = 0;
                for (; i + 4 <= local.M; i += 4)
                {
                    Dot4<TV>(local.K, local.Left(i, 0), local.Lda, b, sums + i);
                }

                if (i + 2 <= local.M)
                {
                    Dot2<TV>(local.K, local.Left(i, 0), local.Lda, b, sums + i);
                    i += 2;
                }

                if (i < local.M)
                {
                    Dot1<TV>(local.K, local.Left(i, 0), b, sums + i);
                }

                for (i = 0; i < local.M; i++)
                {
                    float* c = local.Result(i, j);
                    float value = local.Alpha * sums[i];
                    *c = local.Accumulate ? *c + value : value;
                }
            }

            if (!TEpilogue.IsEmpty)
            {
                epilogue.Apply<TV>(local.Result(0, first), local.Ldc, 0, first, local.M, end - first);
            }
        }
    }
}
