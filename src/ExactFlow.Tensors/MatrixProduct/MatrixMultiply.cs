using ExactFlow.Tensors.Parallel;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Tensors.MatrixProduct;

/// <summary>
/// General matrix products in float32, parallel over a worker pool. The way is chosen by shape: a matrix of few rows times a transposed one streams the
/// latter once (<see cref="MatrixVector"/>), small and thin products run unpacked (<see cref="ThinProduct"/>), all others packed (<see cref="PackedProduct"/>).
/// </summary>
/// <remarks>
/// The result does not depend on the number of workers, bit for bit. Nothing is allocated, except native packing memory when a product is
/// larger than all before it on this thread.
/// </remarks>
public static unsafe class MatrixMultiply
{
    /// <summary>C[m, n] = alpha op(A)[m, k] op(B)[k, n], or C += that. All row-major.</summary>
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
        => Run(workers, m, n, k, a, lda, transposeA, b, ldb, transposeB, c, ldc, accumulate, default(NoEpilogue), alpha);

    /// <summary>The product of <see cref="Run"/>, with <paramref name="epilogue"/> applied to every part of C as soon as it is complete.</summary>
    /// <inheritdoc cref="Run"/>
    /// <param name="epilogue">What to do with the result, such as <see cref="AddBias"/>.</param>
    public static void Run<TEpilogue>(
        WorkerPool workers, int m, int n, int k, float* a, int lda, bool transposeA, float* b, int ldb, bool transposeB, float* c, int ldc, bool accumulate, TEpilogue epilogue, float alpha = 1)
        where TEpilogue : struct, IMatrixEpilogue
    {
        ArgumentNullException.ThrowIfNull(workers);
        if (m <= 0 || n <= 0)
        {
            return;
        }

        var operands = new Operands
        {
            M = m,
            N = n,
            K = k,
            A = a,
            Lda = lda,
            TransposeA = transposeA,
            B = b,
            Ldb = ldb,
            TransposeB = transposeB,
            C = c,
            Ldc = ldc,
            Accumulate = accumulate,
            Alpha = alpha,
        };
        Simd.Simd.Run(new Product<TEpilogue>(workers, operands, epilogue));
    }

    private readonly struct Product<TEpilogue>(WorkerPool workers, Operands operands, TEpilogue epilogue) : IVectorAction
        where TEpilogue : struct, IMatrixEpilogue
    {
        public void Run<TV>()
            where TV : struct, IFloatVector<TV>
        {
            if (MatrixVector.Suits(operands))
            {
                MatrixVector.Run<TV, TEpilogue>(workers, operands, epilogue);
            }
            else if (ThinProduct.Suits<TV>(operands))
            {
                ThinProduct.Run<TV, TEpilogue>(workers, operands, epilogue);
            }
            else
            {
                PackedProduct.Run<TV, TEpilogue>(workers, operands, epilogue);
            }
        }
    }
}
