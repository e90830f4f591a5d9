namespace ExactFlow.Tensors.MatrixProduct;

/// <summary>A product to compute: C[m, n] (+)= alpha op(A)[m, k] op(B)[k, n], all row-major, as <see cref="MatrixMultiply"/> was asked.</summary>
internal readonly unsafe struct Operands
{
    public required int M { get; init; }

    public required int N { get; init; }

    public required int K { get; init; }

    public required float* A { get; init; }

    public required nint Lda { get; init; }

    public required bool TransposeA { get; init; }

    public required float* B { get; init; }

    public required nint Ldb { get; init; }

    public required bool TransposeB { get; init; }

    public required float* C { get; init; }

    public required int Ldc { get; init; }

    public required bool Accumulate { get; init; }

    public required float Alpha { get; init; }

    /// <summary>Element (i, p) of op(A).</summary>
    public float* Left(int i, int p) => A + (TransposeA ? (p * Lda) + i : (i * Lda) + p);

    /// <summary>Element (p, j) of op(B).</summary>
    public float* Right(int p, int j) => B + (TransposeB ? (j * Ldb) + p : (p * Ldb) + j);

    /// <summary>Element (i, j) of C.</summary>
    public float* Result(int i, int j) => C + ((nint)i * Ldc) + j;
}
