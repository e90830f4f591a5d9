using ExactFlow.Tensors;

namespace ExactFlow.Cuda;

/// <summary>
/// Cuts a large product of bfloat16 whose rows do not end on 16 bytes (a vocabulary of 32,001 words) into one whose rows do and a narrow rest:
/// the library has its fast algorithms only for the former, and the others take six times as long.
/// </summary>
internal static class AlignedParts
{
    private const int Multiple = 8;

    /// <summary>Below this extent the second launch costs more than it saves.</summary>
    private const int SmallestExtent = 1024;

    /// <summary>Splits a product in two that give the same result one after the other; false when it is best as it is.</summary>
    public static bool TrySplit(in MatrixProduct product, out MatrixProduct aligned, out MatrixProduct rest)
    {
        aligned = rest = product;
        if (product.A.Type != DType.BFloat16 || product.Batches != 1 || !(IsAligned(product.A) && IsAligned(product.B) && IsAligned(product.C)))
        {
            return false;
        }

        if (IsWorthIt(product.Columns))
        {
            int whole = Whole(product.Columns);
            aligned = product with { Columns = whole };
            rest = product with
            {
                Columns = product.Columns - whole,
                B = product.B.Transposed ? Rows(product.B, whole) : Columns(product.B, whole),
                C = Columns(product.C, whole),
                Bias = product.Bias == 0 ? 0 : product.Bias + (whole * product.BiasType.Size()),
            };
            return true;
        }

        if (product.A.Transposed && IsWorthIt(product.Rows))
        {
            int whole = Whole(product.Rows);
            aligned = product with { Rows = whole };
            rest = product with { Rows = product.Rows - whole, A = Columns(product.A, whole), C = Rows(product.C, whole) };
            return true;
        }

        if ((!product.A.Transposed || product.B.Transposed) && IsWorthIt(product.Depth))
        {
            int whole = Whole(product.Depth);
            aligned = product with { Depth = whole };
            rest = product with
            {
                Depth = product.Depth - whole,
                A = product.A.Transposed ? Rows(product.A, whole) : Columns(product.A, whole),
                B = product.B.Transposed ? Columns(product.B, whole) : Rows(product.B, whole),
                Accumulate = true,
                Bias = 0,
            };
            return true;
        }

        return false;
    }

    /// <summary>Whether rows begin on 16 bytes; where they do not, their ends do not matter.</summary>
    private static bool IsAligned(MatrixOperand matrix) => matrix.Stride % Multiple == 0 && matrix.Address % 16 == 0;

    private static bool IsWorthIt(int extent) => extent % Multiple != 0 && extent >= SmallestExtent;

    private static int Whole(int extent) => extent / Multiple * Multiple;

    /// <summary>The matrix from a stored column on.</summary>
    private static MatrixOperand Columns(MatrixOperand matrix, int first) => matrix with { Address = matrix.Address + (first * matrix.Type.Size()) };

    /// <summary>The matrix from a stored row on.</summary>
    private static MatrixOperand Rows(MatrixOperand matrix, int first) => matrix with { Address = matrix.Address + (nint)(first * matrix.Stride * matrix.Type.Size()) };
}
