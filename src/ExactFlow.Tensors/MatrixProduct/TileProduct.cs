using System.Runtime.CompilerServices;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Tensors.MatrixProduct;

/// <summary>
/// Products of small matrices that already live in the first- or second-level cache: single-threaded, nothing packed, operands read where they are.
/// For kernels made of many such products; <see cref="MatrixMultiply"/> is for large ones.
/// </summary>
public static unsafe class TileProduct
{
    /// <summary>C[m, n] = alpha op(A)[m, k] B[k, n], or C += that. All row-major.</summary>
    /// <typeparam name="TV">The vector width to run at.</typeparam>
    /// <param name="m">Rows of C.</param>
    /// <param name="n">Columns of C.</param>
    /// <param name="k">Columns of op(A).</param>
    /// <param name="a">A, [m, k], or [k, m] when transposed.</param>
    /// <param name="lda">Floats from one row of A to the next.</param>
    /// <param name="transposeA">Whether A is stored transposed.</param>
    /// <param name="b">B, [k, n].</param>
    /// <param name="ldb">Floats from one row of B to the next.</param>
    /// <param name="c">C, [m, n]; must not overlap A or B.</param>
    /// <param name="ldc">Floats from one row of C to the next.</param>
    /// <param name="accumulate">Whether to add to C; otherwise C is overwritten and its contents do not matter.</param>
    /// <param name="alpha">Factor of the product.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Multiply<TV>(int m, int n, int k, float* a, int lda, bool transposeA, float* b, int ldb, float* c, int ldc, bool accumulate, float alpha = 1)
        where TV : struct, IFloatVector<TV>
    {
        nint rowStride = transposeA ? 1 : lda;
        nint columnStride = transposeA ? lda : 1;
        for (int i = 0; i < m; i++)
        {
            for (int j = 0; j < n; j += TV.Count)
            {
                int lanes = Math.Min(TV.Count, n - j);
                TV sum = TV.Zero;
                for (int p = 0; p < k; p++)
                {
                    sum = TV.MultiplyAdd(TV.Broadcast(a[(i * rowStride) + (p * columnStride)]), TV.LoadPartial(b + ((nint)p * ldb) + j, lanes), sum);
                }

                float* target = c + ((nint)i * ldc) + j;
                sum *= TV.Broadcast(alpha);
                (accumulate ? sum + TV.LoadPartial(target, lanes) : sum).StorePartial(target, lanes);
            }
        }
    }

    /// <summary>destination[columns, rows] = source[rows, columns] transposed, both row-major.</summary>
    /// <param name="rows">Rows of the source.</param>
    /// <param name="columns">Columns of the source.</param>
    /// <param name="source">What to transpose.</param>
    /// <param name="sourceStride">Floats from one row of the source to the next.</param>
    /// <param name="destination">Where to; must not overlap.</param>
    /// <param name="destinationStride">Floats from one row of the destination to the next.</param>
    public static void Transpose(int rows, int columns, float* source, int sourceStride, float* destination, int destinationStride)
    {
        for (int i = 0; i < rows; i++)
        {
            for (int j = 0; j < columns; j++)
            {
                destination[((nint)j * destinationStride) + i] = source[((nint)i * sourceStride) + j];
            }
        }
    }
}
