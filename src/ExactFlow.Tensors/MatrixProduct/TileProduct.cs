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
    /// <remarks>
    /// Every element is one chain of fused multiply-adds over k in ascending order, whatever m and n are. Fastest with n a multiple of two vectors
    /// and m of 4; a transposed B goes through <see cref="Transpose"/> first, which costs about n k / 8 cycles.
    /// </remarks>
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
    public static void Multiply<TV>(int m, int n, int k, float* a, int lda, bool transposeA, float* b, int ldb, float* c, int ldc, bool accumulate, float alpha = 1)
        where TV : struct, IFloatVector<TV>
    {
        nint rowStride = transposeA ? 1 : lda;
        nint columnStride = transposeA ? lda : 1;
        int pair = 2 * TV.Count;
        for (int j = 0; j < n; j += pair)
        {
            int columns = Math.Min(pair, n - j);
            if (columns == pair)
            {
                Columns<TV, TileKernels.Pair>(m, k, a, rowStride, columnStride, b + j, ldb, c + j, ldc, 0, alpha, accumulate);
            }
            else if (columns > TV.Count)
            {
                Columns<TV, TileKernels.PartialPair>(m, k, a, rowStride, columnStride, b + j, ldb, c + j, ldc, columns - TV.Count, alpha, accumulate);
            }
            else if (columns == TV.Count)
            {
                Columns<TV, TileKernels.Single>(m, k, a, rowStride, columnStride, b + j, ldb, c + j, ldc, 0, alpha, accumulate);
            }
            else
            {
                Columns<TV, TileKernels.PartialSingle>(m, k, a, rowStride, columnStride, b + j, ldb, c + j, ldc, columns, alpha, accumulate);
            }
        }
    }

    /// <summary>destination[columns, rows] = source[rows, columns] transposed, both row-major.</summary>
    /// <typeparam name="TV">The vector width to run at.</typeparam>
    /// <param name="rows">Rows of the source.</param>
    /// <param name="columns">Columns of the source.</param>
    /// <param name="source">What to transpose.</param>
    /// <param name="sourceStride">Floats from one row of the source to the next.</param>
    /// <param name="destination">Where to; must not overlap.</param>
    /// <param name="destinationStride">Floats from one row of the destination to the next.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Transpose<TV>(int rows, int columns, float* source, int sourceStride, float* destination, int destinationStride)
        where TV : struct, IFloatVector<TV>
    {
        int i = 0;
        for (; i + TV.Count <= rows; i += TV.Count)
        {
            float* from = source + ((nint)i * sourceStride);
            int j = 0;
            for (; j + TV.Count <= columns; j += TV.Count)
            {
                TV.TransposeBlock(from + j, sourceStride, TV.Count, destination + ((nint)j * destinationStride) + i, destinationStride);
            }

            TransposeRest(TV.Count, columns - j, from + j, sourceStride, destination + ((nint)j * destinationStride) + i, destinationStride);
        }

        TransposeRest(rows - i, columns, source + ((nint)i * sourceStride), sourceStride, destination + i, destinationStride);
    }

    /// <summary>All rows of one or two vectors of columns: the part of B stays in the first-level cache meanwhile.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void Columns<TV, TColumns>(
        int m, int k, float* a, nint rowStride, nint columnStride, float* b, nint ldb, float* c, nint ldc, int lanes, float alpha, bool accumulate)
        where TV : struct, IFloatVector<TV>
        where TColumns : struct, ITileColumns
    {
        for (int i = 0; i < m;)
        {
            int rows = RowsOfNextTile<TV>(m - i);
            float* from = a + (i * rowStride);
            float* to = c + (i * ldc);
            switch (rows)
            {
                case 12:
                    TileKernels.Rows12<TV, TColumns>(k, from, rowStride, columnStride, b, ldb, to, ldc, lanes, alpha, accumulate);
                    break;
                case 8:
                    TileKernels.Rows8<TV, TColumns>(k, from, rowStride, columnStride, b, ldb, to, ldc, lanes, alpha, accumulate);
                    break;
                case 6:
                    TileKernels.Rows6<TV, TColumns>(k, from, rowStride, columnStride, b, ldb, to, ldc, lanes, alpha, accumulate);
                    break;
                case 4:
                    TileKernels.Rows4<TV, TColumns>(k, from, rowStride, columnStride, b, ldb, to, ldc, lanes, alpha, accumulate);
                    break;
                case 2:
                    TileKernels.Rows2<TV, TColumns>(k, from, rowStride, columnStride, b, ldb, to, ldc, lanes, alpha, accumulate);
                    break;
                default:
                    TileKernels.Rows1<TV, TColumns>(k, from, rowStride, columnStride, b, ldb, to, ldc, lanes, alpha, accumulate);
                    break;
            }

            i += rows;
        }
    }

    /// <summary>The tallest tile that leaves no low one behind: 16 rows are 8 + 8, not 12 + 4.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int RowsOfNextTile<TV>(int rows)
        where TV : struct, IFloatVector<TV>
    {
        if (TV.Count == V512.Count)
        {
            switch (rows)
            {
                case 13 or 14 or 16:
                    return 8;
                case >= 12:
                    return 12;
                case 8 or 9 or 11:
                    return 8;
            }
        }

        return rows switch
        {
            7 or 8 => 4,
            >= 6 => 6,
            >= 4 => 4,
            >= 2 => 2,
            _ => 1,
        };
    }

    private static void TransposeRest(int rows, int columns, float* source, nint sourceStride, float* destination, nint destinationStride)
    {
        for (int i = 0; i < rows; i++)
        {
            for (int j = 0; j < columns; j++)
            {
                destination[(j * destinationStride) + i] = source[(i * sourceStride) + j];
            }
        }
    }
}
