using System.Numerics;
using ExactFlow.Tensors;

namespace ExactFlow.Cuda;

/// <summary>Everything about a product that the choice of its algorithm depends on.</summary>
internal readonly record struct CublasLtKey(
    int Rows, int Columns, int Depth, int Batches, DType Type, CublasLtKey.Side A, CublasLtKey.Side B, DType TypeOfC, CublasLtKey.Side C, bool HasBias, DType BiasType, int BiasAlignment)
{
    /// <summary>The most bytes that an algorithm can ask an address to be a multiple of.</summary>
    private const int MaxAlignment = 256;

    /// <summary>The key of a product.</summary>
    public static CublasLtKey Of(in MatrixProduct product) => new(
        product.Rows,
        product.Columns,
        product.Depth,
        product.Batches,
        product.A.Type,
        Side.Of(product.A),
        Side.Of(product.B),
        product.C.Type,
        Side.Of(product.C),
        product.Bias != 0,
        product.BiasType,
        product.Bias == 0 ? 0 : Alignment(product.Bias));

    /// <summary>Multiplications and additions of all batches together.</summary>
    public double Operations => 2.0 * Rows * Columns * Depth * Batches;

    /// <summary>All of it as text, equal for equal keys alone.</summary>
    public string Identity => string.Join(' ', Rows, Columns, Depth, Batches, Type, A, B, TypeOfC, C, HasBias, BiasType, BiasAlignment);

    /// <inheritdoc/>
    public override string ToString()
    {
        string a = $"{Type} A [{Rows}, {Depth}]{(A.Transposed ? " (stored transposed)" : "")}";
        string b = $"B [{Depth}, {Columns}]{(B.Transposed ? " (stored transposed)" : "")}";
        return $"{a} times {b} to {TypeOfC} C [{Rows}, {Columns}]{(HasBias ? $" with {BiasType} bias" : "")}, {Batches} {(Batches == 1 ? "product" : "products")}, rows {A.Stride}, {B.Stride} and {C.Stride} apart";
    }

    private static int Alignment(nint address) => 1 << Math.Min(BitOperations.TrailingZeroCount((nuint)address), BitOperations.Log2(MaxAlignment));

    /// <summary>How an operand lies in memory.</summary>
    internal readonly record struct Side(long Stride, bool Transposed, long BatchStride, int Alignment)
    {
        public static Side Of(in MatrixOperand operand) => new(operand.Stride, operand.Transposed, operand.BatchStride, CublasLtKey.Alignment(operand.Address));
    }
}
