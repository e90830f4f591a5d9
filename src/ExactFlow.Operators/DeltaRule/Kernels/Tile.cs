using System.Numerics;
using System.Runtime.CompilerServices;

namespace ExactFlow.Operators;

/// <summary>Which part of a product is computed when one of its matrices is a triangle of a chunk.</summary>
internal enum Band
{
    /// <summary>Everything.</summary>
    Full,

    /// <summary>Only elements of C on and below the diagonal are wanted; some above it are overwritten too.</summary>
    LowerResult,

    /// <summary>A is zero above its diagonal.</summary>
    LowerLeft,

    /// <summary>A is zero below its diagonal.</summary>
    UpperLeft,
}

/// <summary>
/// Products and triangular systems of the small matrices ("tiles") that a chunk is made of: tokens, key and value dimensions up to a few hundred,
/// living in the first two caches and read where they lie.
/// </summary>
/// <remarks>
/// Contract, kept by <see cref="Workspace{T}"/>: rows of B and C may be read and written up to the next multiple of a vector, rows of A and C up to the
/// next multiple of <see cref="Rows"/>. Padding rows of A are zero, so padding of C gets nothing that matters. Every element is one chain of
/// multiply-adds over the depth in a fixed order, whatever the number of threads.
/// </remarks>
/// <typeparam name="TL">Vector registers.</typeparam>
/// <typeparam name="T">float or double.</typeparam>
internal static unsafe class Tile<TL, T>
    where TL : struct, ILanes<TL, T>
    where T : unmanaged, IFloatingPointIeee754<T>
{
    /// <summary>Rows of C held in registers at a time; with four (two) vectors each, 16 (8) accumulators of the 32 (16) registers.</summary>
    public const int Rows = 4;

    /// <summary>Vectors that cover a number of columns.</summary>
    public static int Vectors(int columns) => (columns + TL.Count - 1) / TL.Count;

    /// <summary>C[m, n] = A[m, depth] B[depth, n], or C += that, with element (i, p) of A at <c>a[i * rowOfA + p * stepOfA]</c>.</summary>
    /// <remarks>Columns outside, rows inside: a panel of B (depth x 4 vectors) stays in the first cache while all rows of A pass.</remarks>
    public static void Multiply(int m, int n, int depth, T* a, nint rowOfA, nint stepOfA, T* b, nint rowOfB, T* c, nint rowOfC, bool accumulate, Band band = Band.Full)
    {
        int vectors = Vectors(n);
        for (int first = 0; first < vectors; first += TL.TileWidth)
        {
            int column = first * TL.Count;
            for (int i = 0; i < m; i += Rows)
            {
                int width = Math.Min(TL.TileWidth, vectors - first);
                int start = 0;
                int end = depth;
                switch (band)
                {
                    case Band.LowerResult:
                        width = Math.Min(width, Vectors(i + Rows) - first);
                        break;
                    case Band.LowerLeft:
                        end = Math.Min(depth, i + Rows);
                        break;
                    case Band.UpperLeft:
                        start = i;
                        break;
                }

                T* from = a + (i * rowOfA) + (start * stepOfA);
                Accumulate(width, end - start, from, rowOfA, stepOfA, b + (start * rowOfB) + column, rowOfB, c + (i * rowOfC) + column, rowOfC, accumulate);
            }
        }
    }

    /// <summary>Solves (I - A) X = C in place of C[m, n], A[m, m] strictly lower triangular (its other elements are not read).</summary>
    public static void SolveLower(int m, int n, T* a, nint rowOfA, T* c, nint rowOfC)
    {
        int vectors = Vectors(n);
        for (int first = 0; first < vectors; first += TL.TileWidth)
        {
            int width = Math.Min(TL.TileWidth, vectors - first);
            T* panel = c + (first * TL.Count);
            for (int i = 0; i < m; i += Rows)
            {
                T* block = panel + (i * rowOfC);
                Accumulate(width, i, a + (i * rowOfA), rowOfA, 1, panel, rowOfC, block, rowOfC, accumulate: true);
                FinishLower(width, a + (i * (rowOfA + 1)), rowOfA, block, rowOfC);
            }
        }
    }

    /// <summary>Solves (I - A)^T X = C in place of C[m, n], A as in <see cref="SolveLower"/>; padding rows of A and C must be zero.</summary>
    public static void SolveLowerTransposed(int m, int n, T* a, nint rowOfA, T* c, nint rowOfC)
    {
        int vectors = Vectors(n);
        for (int first = 0; first < vectors; first += TL.TileWidth)
        {
            int width = Math.Min(TL.TileWidth, vectors - first);
            T* panel = c + (first * TL.Count);
            for (int i = (m - 1) / Rows * Rows; i >= 0; i -= Rows)
            {
                int below = i + Rows;
                T* block = panel + (i * rowOfC);
                Accumulate(width, Math.Max(0, m - below), a + (below * rowOfA) + i, 1, rowOfA, panel + (below * rowOfC), rowOfC, block, rowOfC, accumulate: true);
                FinishLowerTransposed(width, a + (i * (rowOfA + 1)), rowOfA, block, rowOfC);
            }
        }
    }

    /// <summary>B[columns, rows] = A[rows, columns] transposed; both are padded to whole vectors in both directions.</summary>
    public static void Transpose(int rows, int columns, T* a, nint rowOfA, T* b, nint rowOfB)
    {
        for (int i = 0; i < rows; i += TL.Count)
        {
            int height = Math.Min(TL.Count, rows - i);
            for (int j = 0; j < columns; j += TL.Count)
            {
                TL.TransposeBlock(a + (i * rowOfA) + j, rowOfA, height, b + (j * rowOfB) + i, rowOfB);
            }
        }
    }

    private static void Accumulate(int width, int depth, T* a, nint rowOfA, nint stepOfA, T* b, nint rowOfB, T* c, nint rowOfC, bool accumulate)
    {
        switch (width)
        {
            case 4:
                Accumulate<Width4>(depth, a, rowOfA, stepOfA, b, rowOfB, c, rowOfC, accumulate);
                break;
            case 3:
                Accumulate<Width3>(depth, a, rowOfA, stepOfA, b, rowOfB, c, rowOfC, accumulate);
                break;
            case 2:
                Accumulate<Width2>(depth, a, rowOfA, stepOfA, b, rowOfB, c, rowOfC, accumulate);
                break;
            case 1:
                Accumulate<Width1>(depth, a, rowOfA, stepOfA, b, rowOfB, c, rowOfC, accumulate);
                break;
        }
    }

    /// <summary>Four rows of one to four vectors of C, in registers while the depth passes by.</summary>
    /// <remarks>Written out because the compiler keeps named variables in registers, not arrays; what a width does not need, it drops.</remarks>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Accumulate<TWidth>(int depth, T* a, nint rowOfA, nint stepOfA, T* b, nint rowOfB, T* c, nint rowOfC, bool accumulate)
        where TWidth : struct, IWidth
    {
        TL c00 = TL.Zero, c01 = TL.Zero, c02 = TL.Zero, c03 = TL.Zero;
        TL c10 = TL.Zero, c11 = TL.Zero, c12 = TL.Zero, c13 = TL.Zero;
        TL c20 = TL.Zero, c21 = TL.Zero, c22 = TL.Zero, c23 = TL.Zero;
        TL c30 = TL.Zero, c31 = TL.Zero, c32 = TL.Zero, c33 = TL.Zero;
        if (accumulate)
        {
            c00 = TL.Load(c);
            c01 = TWidth.Count > 1 ? TL.Load(c + TL.Count) : c01;
            c02 = TWidth.Count > 2 ? TL.Load(c + (2 * TL.Count)) : c02;
            c03 = TWidth.Count > 3 ? TL.Load(c + (3 * TL.Count)) : c03;
            c10 = TL.Load(c + rowOfC);
            c11 = TWidth.Count > 1 ? TL.Load(c + rowOfC + TL.Count) : c11;
            c12 = TWidth.Count > 2 ? TL.Load(c + rowOfC + (2 * TL.Count)) : c12;
            c13 = TWidth.Count > 3 ? TL.Load(c + rowOfC + (3 * TL.Count)) : c13;
            c20 = TL.Load(c + (2 * rowOfC));
            c21 = TWidth.Count > 1 ? TL.Load(c + (2 * rowOfC) + TL.Count) : c21;
            c22 = TWidth.Count > 2 ? TL.Load(c + (2 * rowOfC) + (2 * TL.Count)) : c22;
            c23 = TWidth.Count > 3 ? TL.Load(c + (2 * rowOfC) + (3 * TL.Count)) : c23;
            c30 = TL.Load(c + (3 * rowOfC));
            c31 = TWidth.Count > 1 ? TL.Load(c + (3 * rowOfC) + TL.Count) : c31;
            c32 = TWidth.Count > 2 ? TL.Load(c + (3 * rowOfC) + (2 * TL.Count)) : c32;
            c33 = TWidth.Count > 3 ? TL.Load(c + (3 * rowOfC) + (3 * TL.Count)) : c33;
        }

        T* a2 = a + (2 * rowOfA);
        for (int p = 0; p < depth; p++)
        {
            TL b0 = TL.Load(b);
            TL b1 = TWidth.Count > 1 ? TL.Load(b + TL.Count) : TL.Zero;
            TL b2 = TWidth.Count > 2 ? TL.Load(b + (2 * TL.Count)) : TL.Zero;
            TL b3 = TWidth.Count > 3 ? TL.Load(b + (3 * TL.Count)) : TL.Zero;
            TL x = TL.Broadcast(*a);
            c00 = TL.MultiplyAdd(x, b0, c00);
            c01 = TWidth.Count > 1 ? TL.MultiplyAdd(x, b1, c01) : c01;
            c02 = TWidth.Count > 2 ? TL.MultiplyAdd(x, b2, c02) : c02;
            c03 = TWidth.Count > 3 ? TL.MultiplyAdd(x, b3, c03) : c03;
            x = TL.Broadcast(a[rowOfA]);
            c10 = TL.MultiplyAdd(x, b0, c10);
            c11 = TWidth.Count > 1 ? TL.MultiplyAdd(x, b1, c11) : c11;
            c12 = TWidth.Count > 2 ? TL.MultiplyAdd(x, b2, c12) : c12;
            c13 = TWidth.Count > 3 ? TL.MultiplyAdd(x, b3, c13) : c13;
            x = TL.Broadcast(*a2);
            c20 = TL.MultiplyAdd(x, b0, c20);
            c21 = TWidth.Count > 1 ? TL.MultiplyAdd(x, b1, c21) : c21;
            c22 = TWidth.Count > 2 ? TL.MultiplyAdd(x, b2, c22) : c22;
            c23 = TWidth.Count > 3 ? TL.MultiplyAdd(x, b3, c23) : c23;
            x = TL.Broadcast(a2[rowOfA]);
            c30 = TL.MultiplyAdd(x, b0, c30);
            c31 = TWidth.Count > 1 ? TL.MultiplyAdd(x, b1, c31) : c31;
            c32 = TWidth.Count > 2 ? TL.MultiplyAdd(x, b2, c32) : c32;
            c33 = TWidth.Count > 3 ? TL.MultiplyAdd(x, b3, c33) : c33;
            a += stepOfA;
            a2 += stepOfA;
            b += rowOfB;
        }

        StoreRow<TWidth>(c, c00, c01, c02, c03);
        StoreRow<TWidth>(c + rowOfC, c10, c11, c12, c13);
        StoreRow<TWidth>(c + (2 * rowOfC), c20, c21, c22, c23);
        StoreRow<TWidth>(c + (3 * rowOfC), c30, c31, c32, c33);
    }

    /// <summary>Forward substitution within four rows.</summary>
    private static void FinishLower(int width, T* a, nint rowOfA, T* c, nint rowOfC)
    {
        TL a10 = TL.Broadcast(a[rowOfA]);
        TL a20 = TL.Broadcast(a[2 * rowOfA]);
        TL a21 = TL.Broadcast(a[(2 * rowOfA) + 1]);
        TL a30 = TL.Broadcast(a[3 * rowOfA]);
        TL a31 = TL.Broadcast(a[(3 * rowOfA) + 1]);
        TL a32 = TL.Broadcast(a[(3 * rowOfA) + 2]);
        for (int j = 0; j < width; j++)
        {
            TL x0 = TL.Load(c);
            TL x1 = TL.MultiplyAdd(a10, x0, TL.Load(c + rowOfC));
            TL x2 = TL.MultiplyAdd(a21, x1, TL.MultiplyAdd(a20, x0, TL.Load(c + (2 * rowOfC))));
            TL x3 = TL.MultiplyAdd(a32, x2, TL.MultiplyAdd(a31, x1, TL.MultiplyAdd(a30, x0, TL.Load(c + (3 * rowOfC)))));
            x1.Store(c + rowOfC);
            x2.Store(c + (2 * rowOfC));
            x3.Store(c + (3 * rowOfC));
            c += TL.Count;
        }
    }

    /// <summary>Backward substitution within four rows.</summary>
    private static void FinishLowerTransposed(int width, T* a, nint rowOfA, T* c, nint rowOfC)
    {
        TL a10 = TL.Broadcast(a[rowOfA]);
        TL a20 = TL.Broadcast(a[2 * rowOfA]);
        TL a21 = TL.Broadcast(a[(2 * rowOfA) + 1]);
        TL a30 = TL.Broadcast(a[3 * rowOfA]);
        TL a31 = TL.Broadcast(a[(3 * rowOfA) + 1]);
        TL a32 = TL.Broadcast(a[(3 * rowOfA) + 2]);
        for (int j = 0; j < width; j++)
        {
            TL x3 = TL.Load(c + (3 * rowOfC));
            TL x2 = TL.MultiplyAdd(a32, x3, TL.Load(c + (2 * rowOfC)));
            TL x1 = TL.MultiplyAdd(a21, x2, TL.MultiplyAdd(a31, x3, TL.Load(c + rowOfC)));
            TL x0 = TL.MultiplyAdd(a10, x1, TL.MultiplyAdd(a20, x2, TL.MultiplyAdd(a30, x3, TL.Load(c))));
            x2.Store(c + (2 * rowOfC));
            x1.Store(c + rowOfC);
            x0.Store(c);
            c += TL.Count;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void StoreRow<TWidth>(T* c, TL c0, TL c1, TL c2, TL c3)
        where TWidth : struct, IWidth
    {
        c0.Store(c);
        if (TWidth.Count > 1)
        {
            c1.Store(c + TL.Count);
        }

        if (TWidth.Count > 2)
        {
            c2.Store(c + (2 * TL.Count));
        }

        if (TWidth.Count > 3)
        {
            c3.Store(c + (3 * TL.Count));
        }
    }
}
