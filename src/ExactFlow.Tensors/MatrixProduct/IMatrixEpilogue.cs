using System.Runtime.CompilerServices;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Tensors.MatrixProduct;

/// <summary>
/// What happens to C right after it was computed, while it is still in the first- or second-level cache: a struct passed to
/// <see cref="MatrixMultiply.Run{TEpilogue}"/>. Every element is seen exactly once, by some worker.
/// </summary>
public interface IMatrixEpilogue
{
    /// <summary>Whether there is anything to do; a constant, so that no call remains when there is not.</summary>
    static abstract bool IsEmpty { get; }

    /// <summary>Transforms a finished part of C in place.</summary>
    /// <param name="c">Its first element.</param>
    /// <param name="ldc">Floats from one row of C to the next.</param>
    /// <param name="row">Row of the first element in C.</param>
    /// <param name="column">Column of the first element in C.</param>
    /// <param name="rows">Rows of the part.</param>
    /// <param name="columns">Columns of the part.</param>
    unsafe void Apply<TV>(float* c, int ldc, int row, int column, int rows, int columns)
        where TV : struct, IFloatVector<TV>;
}

/// <summary>Leaves C as it is.</summary>
public readonly struct NoEpilogue : IMatrixEpilogue
{
    /// <inheritdoc/>
    public static bool IsEmpty => true;

    /// <inheritdoc/>
    public unsafe void Apply<TV>(float* c, int ldc, int row, int column, int rows, int columns)
        where TV : struct, IFloatVector<TV>
    {
    }
}

/// <summary>Adds a row vector to every row of C.</summary>
/// <param name="bias">As many floats as C has columns.</param>
public readonly unsafe struct AddBias(float* bias) : IMatrixEpilogue
{
    private readonly float* bias = bias;

    /// <inheritdoc/>
    public static bool IsEmpty => false;

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public void Apply<TV>(float* c, int ldc, int row, int column, int rows, int columns)
        where TV : struct, IFloatVector<TV>
    {
        for (int j = 0; j < columns; j += TV.Count)
        {
            int lanes = Math.Min(TV.Count, columns - j);
            TV add = TV.LoadPartial(bias + column + j, lanes);
            for (int i = 0; i < rows; i++)
            {
                float* target = c + ((nint)i * ldc) + j;
                if (lanes == TV.Count)
                {
                    (TV.Load(target) + add).Store(target);
                }
                else
                {
                    (TV.LoadPartial(target, lanes) + add).StorePartial(target, lanes);
                }
            }
        }
    }
}
