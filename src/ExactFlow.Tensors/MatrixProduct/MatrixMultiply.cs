using ExactFlow.Tensors.Parallel;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Tensors.MatrixProduct;

/// <summary>General matrix products in float32, parallel over a worker pool.</summary>
public static unsafe class MatrixMultiply
{
    private const int RowBlock = 32;
    private const int ColumnBlock = 256;

    /// <summary>C[m, n] = alpha op(A)[m, k] op(B)[k, n], or C += that. All row-major.</summary>
    /// <remarks>Every element of C is summed in an order that does not depend on the number of workers.</remarks>
    /// <param name="workers">The threads to share the work.</param>
    /// <param name="m">Rows of C.</param>
    /// <param name="n">Columns of C.</param>
    /// <param name="k">Columns of op(A), rows of op(B).</param>
    /// <param name="a">A, [m, k], or [k, m] when transposed.</param>
    /// <param name="lda">Floats from one row of A to the next.</param>
    /// <param name="transposeA">Whether A is stored transposed.</param>
    /// <param name="b">B, [k, n], or [n, k] when transposed.</param>
    /// <param name="ldb">Floats from one row of B to the next.</param>
    /// <param name="transposeB">Whether B is stored transposed.</param>
    /// <param name="c">C, [m, n]; must not overlap A or B.</param>
    /// <param name="ldc">Floats from one row of C to the next.</param>
    /// <param name="accumulate">Whether to add to C; otherwise C is overwritten and its contents do not matter.</param>
    /// <param name="alpha">Factor of the product.</param>
    public static void Run(
        WorkerPool workers, int m, int n, int k, float* a, int lda, bool transposeA, float* b, int ldb, bool transposeB, float* c, int ldc, bool accumulate, float alpha = 1)
    {
        ArgumentNullException.ThrowIfNull(workers);
        int rowBlocks = (m + RowBlock - 1) / RowBlock;
        int columnBlocks = (n + ColumnBlock - 1) / ColumnBlock;
        Simd.Simd.For(workers, rowBlocks * columnBlocks, new Blocks(columnBlocks, m, n, k, a, lda, transposeA, b, ldb, transposeB, c, ldc, accumulate, alpha));
    }

    private readonly struct Blocks(
        int columnBlocks, int m, int n, int k, float* a, int lda, bool transposeA, float* b, int ldb, bool transposeB, float* c, int ldc, bool accumulate, float alpha)
        : IVectorBody
    {
        public void Run<TV>(int index, int worker)
            where TV : struct, IFloatVector<TV>
        {
            int row = index / columnBlocks * RowBlock;
            int column = index % columnBlocks * ColumnBlock;
            int rows = Math.Min(RowBlock, m - row);
            int columns = Math.Min(ColumnBlock, n - column);
            float* aBlock = a + (transposeA ? row : (nint)row * lda);
            float* cBlock = c + ((nint)row * ldc) + column;
            if (!transposeB)
            {
                TileProduct.Multiply<TV>(rows, columns, k, aBlock, lda, transposeA, b + column, ldb, cBlock, ldc, accumulate, alpha);
                return;
            }

            float* transposed = stackalloc float[32 * ColumnBlock];
            for (int p = 0; p < Math.Max(k, 1); p += 32)
            {
                int depth = Math.Min(32, k - p);
                TileProduct.Transpose<TV>(columns, depth, b + ((nint)column * ldb) + p, ldb, transposed, ColumnBlock);
                TileProduct.Multiply<TV>(
                    rows, columns, depth, aBlock + (transposeA ? (nint)p * lda : p), lda, transposeA, transposed, ColumnBlock, cBlock, ldc, accumulate || p > 0, alpha);
            }
        }
    }
}
