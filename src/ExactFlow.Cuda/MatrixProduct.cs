using ExactFlow.Tensors;

namespace ExactFlow.Cuda;

/// <summary>
/// <c>C[rows, columns] = alpha op(A)[rows, depth] op(B)[depth, columns] (+ C) (+ bias[columns])</c>, everything row-major, sums in float32.
/// With several batches, the operands of batch i begin i strides further on.
/// </summary>
public readonly record struct MatrixProduct
{
    /// <summary>Rows of C.</summary>
    public required int Rows { get; init; }

    /// <summary>Columns of C.</summary>
    public required int Columns { get; init; }

    /// <summary>Length of the sums; 0 leaves alpha times nothing, so C is zeros, what it was, or the bias.</summary>
    public required int Depth { get; init; }

    /// <summary>The left operand.</summary>
    public required MatrixOperand A { get; init; }

    /// <summary>The right operand, of the same number format as A.</summary>
    public required MatrixOperand B { get; init; }

    /// <summary>The result, float32 or the format of A; never transposed.</summary>
    public required MatrixOperand C { get; init; }

    /// <summary>Factor on the product.</summary>
    public float Alpha { get; init; } = 1;

    /// <summary>Whether to add to what C holds.</summary>
    public bool Accumulate { get; init; }

    /// <summary>Address of a float32 or bfloat16 row [columns] that is added to every row, or 0.</summary>
    public nint Bias { get; init; }

    /// <summary>Number format of the bias.</summary>
    public DType BiasType { get; init; } = DType.Float32;

    /// <summary>Number of independent products.</summary>
    public int Batches { get; init; } = 1;

    /// <summary>All defaults.</summary>
    public MatrixProduct()
    {
    }
}

/// <summary>A matrix in device memory, row-major as stored.</summary>
/// <param name="Address">First element.</param>
/// <param name="Type">Float32 or BFloat16.</param>
/// <param name="Stride">Elements from one stored row to the next.</param>
/// <param name="Transposed">Whether the operand is the transpose of what is stored.</param>
/// <param name="BatchStride">Elements from one batch's matrix to the next.</param>
public readonly record struct MatrixOperand(nint Address, DType Type, long Stride, bool Transposed = false, long BatchStride = 0);
