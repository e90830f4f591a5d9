using System.Runtime.CompilerServices;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Tensors.MatrixProduct;

/// <summary>How many columns a kernel of <see cref="TileKernels"/> computes: one vector or two, the last one whole or in part. Known to the compiler.</summary>
internal interface ITileColumns
{
    /// <summary>Two vectors of columns instead of one.</summary>
    static abstract bool IsPair { get; }

    /// <summary>Only the first lanes of the last vector exist in B and C.</summary>
    static abstract bool IsPartial { get; }
}

/// <summary>
/// The innermost loops of every matrix product: R rows by one or two vectors of columns of C, held in registers while k passes by.
/// Per step one or two vectors of B are loaded and R elements of A broadcast. Twelve rows by two vectors are 24 accumulators of the 32 registers
/// of AVX-512; six by two are 12 of the 16 of the older sets. The other heights finish what is left of a matrix.
/// </summary>
/// <remarks>
/// Element (i, p) of A is at <c>a[i * rowStride + p * columnStride]</c>, so A may be row-major, transposed or packed. Rows are addressed from every third
/// one, as base, base + stride and base + 2 stride: these are addressing modes of the processor, so that twelve rows need five registers, not twelve.
/// The kernels are written out row by row because the compiler keeps only named variables in registers, not arrays.
/// </remarks>
internal static unsafe class TileKernels
{
    /// <summary>C[12, columns] = alpha A[12, k] B[k, columns], or C += that.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Rows12<TV, TColumns>(
        int k, float* a, nint rowStride, nint columnStride, float* b, nint ldb, float* c, nint ldc, int lanes, float alpha, bool accumulate)
        where TV : struct, IFloatVector<TV>
        where TColumns : struct, ITileColumns
    {
        float* a0 = a;
        float* a3 = a + (3 * rowStride);
        float* a6 = a + (6 * rowStride);
        float* a9 = a + (9 * rowStride);
        TV c0 = TV.Zero, d0 = TV.Zero;
        TV c1 = TV.Zero, d1 = TV.Zero;
        TV c2 = TV.Zero, d2 = TV.Zero;
        TV c3 = TV.Zero, d3 = TV.Zero;
        TV c4 = TV.Zero, d4 = TV.Zero;
        TV c5 = TV.Zero, d5 = TV.Zero;
        TV c6 = TV.Zero, d6 = TV.Zero;
        TV c7 = TV.Zero, d7 = TV.Zero;
        TV c8 = TV.Zero, d8 = TV.Zero;
        TV c9 = TV.Zero, d9 = TV.Zero;
        TV c10 = TV.Zero, d10 = TV.Zero;
        TV c11 = TV.Zero, d11 = TV.Zero;
        for (int p = 0; p < k; p++)
        {
            TV left = LoadLeft<TV, TColumns>(b, lanes);
            TV right = LoadRight<TV, TColumns>(b, lanes);
            TV x = TV.Broadcast(*a0);
            c0 = TV.MultiplyAdd(x, left, c0);
            d0 = TColumns.IsPair ? TV.MultiplyAdd(x, right, d0) : d0;
            x = TV.Broadcast(a0[rowStride]);
            c1 = TV.MultiplyAdd(x, left, c1);
            d1 = TColumns.IsPair ? TV.MultiplyAdd(x, right, d1) : d1;
            x = TV.Broadcast(a0[2 * rowStride]);
            c2 = TV.MultiplyAdd(x, left, c2);
            d2 = TColumns.IsPair ? TV.MultiplyAdd(x, right, d2) : d2;
            x = TV.Broadcast(*a3);
            c3 = TV.MultiplyAdd(x, left, c3);
            d3 = TColumns.IsPair ? TV.MultiplyAdd(x, right, d3) : d3;
            x = TV.Broadcast(a3[rowStride]);
            c4 = TV.MultiplyAdd(x, left, c4);
            d4 = TColumns.IsPair ? TV.MultiplyAdd(x, right, d4) : d4;
            x = TV.Broadcast(a3[2 * rowStride]);
            c5 = TV.MultiplyAdd(x, left, c5);
            d5 = TColumns.IsPair ? TV.MultiplyAdd(x, right, d5) : d5;
            x = TV.Broadcast(*a6);
            c6 = TV.MultiplyAdd(x, left, c6);
            d6 = TColumns.IsPair ? TV.MultiplyAdd(x, right, d6) : d6;
            x = TV.Broadcast(a6[rowStride]);
            c7 = TV.MultiplyAdd(x, left, c7);
            d7 = TColumns.IsPair ? TV.MultiplyAdd(x, right, d7) : d7;
            x = TV.Broadcast(a6[2 * rowStride]);
            c8 = TV.MultiplyAdd(x, left, c8);
            d8 = TColumns.IsPair ? TV.MultiplyAdd(x, right, d8) : d8;
            x = TV.Broadcast(*a9);
            c9 = TV.MultiplyAdd(x, left, c9);
            d9 = TColumns.IsPair ? TV.MultiplyAdd(x, right, d9) : d9;
            x = TV.Broadcast(a9[rowStride]);
            c10 = TV.MultiplyAdd(x, left, c10);
            d10 = TColumns.IsPair ? TV.MultiplyAdd(x, right, d10) : d10;
            x = TV.Broadcast(a9[2 * rowStride]);
            c11 = TV.MultiplyAdd(x, left, c11);
            d11 = TColumns.IsPair ? TV.MultiplyAdd(x, right, d11) : d11;
            a0 += columnStride;
            a3 += columnStride;
            a6 += columnStride;
            a9 += columnStride;
            b += ldb;
        }

        TV factor = TV.Broadcast(alpha);
        Write<TV, TColumns>(c, c0, d0, lanes, factor, accumulate);
        Write<TV, TColumns>(c + ldc, c1, d1, lanes, factor, accumulate);
        Write<TV, TColumns>(c + (2 * ldc), c2, d2, lanes, factor, accumulate);
        Write<TV, TColumns>(c + (3 * ldc), c3, d3, lanes, factor, accumulate);
        Write<TV, TColumns>(c + (4 * ldc), c4, d4, lanes, factor, accumulate);
        Write<TV, TColumns>(c + (5 * ldc), c5, d5, lanes, factor, accumulate);
        Write<TV, TColumns>(c + (6 * ldc), c6, d6, lanes, factor, accumulate);
        Write<TV, TColumns>(c + (7 * ldc), c7, d7, lanes, factor, accumulate);
        Write<TV, TColumns>(c + (8 * ldc), c8, d8, lanes, factor, accumulate);
        Write<TV, TColumns>(c + (9 * ldc), c9, d9, lanes, factor, accumulate);
        Write<TV, TColumns>(c + (10 * ldc), c10, d10, lanes, factor, accumulate);
        Write<TV, TColumns>(c + (11 * ldc), c11, d11, lanes, factor, accumulate);
    }

    /// <summary>C[8, columns] = alpha A[8, k] B[k, columns], or C += that.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Rows8<TV, TColumns>(
        int k, float* a, nint rowStride, nint columnStride, float* b, nint ldb, float* c, nint ldc, int lanes, float alpha, bool accumulate)
        where TV : struct, IFloatVector<TV>
        where TColumns : struct, ITileColumns
    {
        float* a0 = a;
        float* a3 = a + (3 * rowStride);
        float* a6 = a + (6 * rowStride);
        TV c0 = TV.Zero, d0 = TV.Zero;
        TV c1 = TV.Zero, d1 = TV.Zero;
        TV c2 = TV.Zero, d2 = TV.Zero;
        TV c3 = TV.Zero, d3 = TV.Zero;
        TV c4 = TV.Zero, d4 = TV.Zero;
        TV c5 = TV.Zero, d5 = TV.Zero;
        TV c6 = TV.Zero, d6 = TV.Zero;
        TV c7 = TV.Zero, d7 = TV.Zero;
        for (int p = 0; p < k; p++)
        {
            TV left = LoadLeft<TV, TColumns>(b, lanes);
            TV right = LoadRight<TV, TColumns>(b, lanes);
            TV x = TV.Broadcast(*a0);
            c0 = TV.MultiplyAdd(x, left, c0);
            d0 = TColumns.IsPair ? TV.MultiplyAdd(x, right, d0) : d0;
            x = TV.Broadcast(a0[rowStride]);
            c1 = TV.MultiplyAdd(x, left, c1);
            d1 = TColumns.IsPair ? TV.MultiplyAdd(x, right, d1) : d1;
            x = TV.Broadcast(a0[2 * rowStride]);
            c2 = TV.MultiplyAdd(x, left, c2);
            d2 = TColumns.IsPair ? TV.MultiplyAdd(x, right, d2) : d2;
            x = TV.Broadcast(*a3);
            c3 = TV.MultiplyAdd(x, left, c3);
            d3 = TColumns.IsPair ? TV.MultiplyAdd(x, right, d3) : d3;
            x = TV.Broadcast(a3[rowStride]);
            c4 = TV.MultiplyAdd(x, left, c4);
            d4 = TColumns.IsPair ? TV.MultiplyAdd(x, right, d4) : d4;
            x = TV.Broadcast(a3[2 * rowStride]);
            c5 = TV.MultiplyAdd(x, left, c5);
            d5 = TColumns.IsPair ? TV.MultiplyAdd(x, right, d5) : d5;
            x = TV.Broadcast(*a6);
            c6 = TV.MultiplyAdd(x, left, c6);
            d6 = TColumns.IsPair ? TV.MultiplyAdd(x, right, d6) : d6;
            x = TV.Broadcast(a6[rowStride]);
            c7 = TV.MultiplyAdd(x, left, c7);
            d7 = TColumns.IsPair ? TV.MultiplyAdd(x, right, d7) : d7;
            a0 += columnStride;
            a3 += columnStride;
            a6 += columnStride;
            b += ldb;
        }

        TV factor = TV.Broadcast(alpha);
        Write<TV, TColumns>(c, c0, d0, lanes, factor, accumulate);
        Write<TV, TColumns>(c + ldc, c1, d1, lanes, factor, accumulate);
        Write<TV, TColumns>(c + (2 * ldc), c2, d2, lanes, factor, accumulate);
        Write<TV, TColumns>(c + (3 * ldc), c3, d3, lanes, factor, accumulate);
        Write<TV, TColumns>(c + (4 * ldc), c4, d4, lanes, factor, accumulate);
        Write<TV, TColumns>(c + (5 * ldc), c5, d5, lanes, factor, accumulate);
        Write<TV, TColumns>(c + (6 * ldc), c6, d6, lanes, factor, accumulate);
        Write<TV, TColumns>(c + (7 * ldc), c7, d7, lanes, factor, accumulate);
    }

    /// <summary>C[6, columns] = alpha A[6, k] B[k, columns], or C += that.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Rows6<TV, TColumns>(
        int k, float* a, nint rowStride, nint columnStride, float* b, nint ldb, float* c, nint ldc, int lanes, float alpha, bool accumulate)
        where TV : struct, IFloatVector<TV>
        where TColumns : struct, ITileColumns
    {
        float* a0 = a;
        float* a3 = a + (3 * rowStride);
        TV c0 = TV.Zero, d0 = TV.Zero;
        TV c1 = TV.Zero, d1 = TV.Zero;
        TV c2 = TV.Zero, d2 = TV.Zero;
        TV c3 = TV.Zero, d3 = TV.Zero;
        TV c4 = TV.Zero, d4 = TV.Zero;
        TV c5 = TV.Zero, d5 = TV.Zero;
        for (int p = 0; p < k; p++)
        {
            TV left = LoadLeft<TV, TColumns>(b, lanes);
            TV right = LoadRight<TV, TColumns>(b, lanes);
            TV x = TV.Broadcast(*a0);
            c0 = TV.MultiplyAdd(x, left, c0);
            d0 = TColumns.IsPair ? TV.MultiplyAdd(x, right, d0) : d0;
            x = TV.Broadcast(a0[rowStride]);
            c1 = TV.MultiplyAdd(x, left, c1);
            d1 = TColumns.IsPair ? TV.MultiplyAdd(x, right, d1) : d1;
            x = TV.Broadcast(a0[2 * rowStride]);
            c2 = TV.MultiplyAdd(x, left, c2);
            d2 = TColumns.IsPair ? TV.MultiplyAdd(x, right, d2) : d2;
            x = TV.Broadcast(*a3);
            c3 = TV.MultiplyAdd(x, left, c3);
            d3 = TColumns.IsPair ? TV.MultiplyAdd(x, right, d3) : d3;
            x = TV.Broadcast(a3[rowStride]);
            c4 = TV.MultiplyAdd(x, left, c4);
            d4 = TColumns.IsPair ? TV.MultiplyAdd(x, right, d4) : d4;
            x = TV.Broadcast(a3[2 * rowStride]);
            c5 = TV.MultiplyAdd(x, left, c5);
            d5 = TColumns.IsPair ? TV.MultiplyAdd(x, right, d5) : d5;
            a0 += columnStride;
            a3 += columnStride;
            b += ldb;
        }

        TV factor = TV.Broadcast(alpha);
        Write<TV, TColumns>(c, c0, d0, lanes, factor, accumulate);
        Write<TV, TColumns>(c + ldc, c1, d1, lanes, factor, accumulate);
        Write<TV, TColumns>(c + (2 * ldc), c2, d2, lanes, factor, accumulate);
        Write<TV, TColumns>(c + (3 * ldc), c3, d3, lanes, factor, accumulate);
        Write<TV, TColumns>(c + (4 * ldc), c4, d4, lanes, factor, accumulate);
        Write<TV, TColumns>(c + (5 * ldc), c5, d5, lanes, factor, accumulate);
    }

    /// <summary>C[4, columns] = alpha A[4, k] B[k, columns], or C += that.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Rows4<TV, TColumns>(
        int k, float* a, nint rowStride, nint columnStride, float* b, nint ldb, float* c, nint ldc, int lanes, float alpha, bool accumulate)
        where TV : struct, IFloatVector<TV>
        where TColumns : struct, ITileColumns
    {
        float* a0 = a;
        float* a3 = a + (3 * rowStride);
        TV c0 = TV.Zero, d0 = TV.Zero;
        TV c1 = TV.Zero, d1 = TV.Zero;
        TV c2 = TV.Zero, d2 = TV.Zero;
        TV c3 = TV.Zero, d3 = TV.Zero;
        for (int p = 0; p < k; p++)
        {
            TV left = LoadLeft<TV, TColumns>(b, lanes);
            TV right = LoadRight<TV, TColumns>(b, lanes);
            TV x = TV.Broadcast(*a0);
            c0 = TV.MultiplyAdd(x, left, c0);
            d0 = TColumns.IsPair ? TV.MultiplyAdd(x, right, d0) : d0;
            x = TV.Broadcast(a0[rowStride]);
            c1 = TV.MultiplyAdd(x, left, c1);
            d1 = TColumns.IsPair ? TV.MultiplyAdd(x, right, d1) : d1;
            x = TV.Broadcast(a0[2 * rowStride]);
            c2 = TV.MultiplyAdd(x, left, c2);
            d2 = TColumns.IsPair ? TV.MultiplyAdd(x, right, d2) : d2;
            x = TV.Broadcast(*a3);
            c3 = TV.MultiplyAdd(x, left, c3);
            d3 = TColumns.IsPair ? TV.MultiplyAdd(x, right, d3) : d3;
            a0 += columnStride;
            a3 += columnStride;
            b += ldb;
        }

        TV factor = TV.Broadcast(alpha);
        Write<TV, TColumns>(c, c0, d0, lanes, factor, accumulate);
        Write<TV, TColumns>(c + ldc, c1, d1, lanes, factor, accumulate);
        Write<TV, TColumns>(c + (2 * ldc), c2, d2, lanes, factor, accumulate);
        Write<TV, TColumns>(c + (3 * ldc), c3, d3, lanes, factor, accumulate);
    }

    /// <summary>C[2, columns] = alpha A[2, k] B[k, columns], or C += that.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Rows2<TV, TColumns>(
        int k, float* a, nint rowStride, nint columnStride, float* b, nint ldb, float* c, nint ldc, int lanes, float alpha, bool accumulate)
        where TV : struct, IFloatVector<TV>
        where TColumns : struct, ITileColumns
    {
        float* a0 = a;
        TV c0 = TV.Zero, d0 = TV.Zero;
        TV c1 = TV.Zero, d1 = TV.Zero;
        for (int p = 0; p < k; p++)
        {
            TV left = LoadLeft<TV, TColumns>(b, lanes);
            TV right = LoadRight<TV, TColumns>(b, lanes);
            TV x = TV.Broadcast(*a0);
            c0 = TV.MultiplyAdd(x, left, c0);
            d0 = TColumns.IsPair ? TV.MultiplyAdd(x, right, d0) : d0;
            x = TV.Broadcast(a0[rowStride]);
            c1 = TV.MultiplyAdd(x, left, c1);
            d1 = TColumns.IsPair ? TV.MultiplyAdd(x, right, d1) : d1;
            a0 += columnStride;
            b += ldb;
        }

        TV factor = TV.Broadcast(alpha);
        Write<TV, TColumns>(c, c0, d0, lanes, factor, accumulate);
        Write<TV, TColumns>(c + ldc, c1, d1, lanes, factor, accumulate);
    }

    /// <summary>C[1, columns] = alpha A[1, k] B[k, columns], or C += that.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Rows1<TV, TColumns>(
        int k, float* a, nint rowStride, nint columnStride, float* b, nint ldb, float* c, nint ldc, int lanes, float alpha, bool accumulate)
        where TV : struct, IFloatVector<TV>
        where TColumns : struct, ITileColumns
    {
        float* a0 = a;
        TV c0 = TV.Zero, d0 = TV.Zero;
        for (int p = 0; p < k; p++)
        {
            TV left = LoadLeft<TV, TColumns>(b, lanes);
            TV right = LoadRight<TV, TColumns>(b, lanes);
            TV x = TV.Broadcast(*a0);
            c0 = TV.MultiplyAdd(x, left, c0);
            d0 = TColumns.IsPair ? TV.MultiplyAdd(x, right, d0) : d0;
            a0 += columnStride;
            b += ldb;
        }

        TV factor = TV.Broadcast(alpha);
        Write<TV, TColumns>(c, c0, d0, lanes, factor, accumulate);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static TV LoadLeft<TV, TColumns>(float* source, int lanes)
        where TV : struct, IFloatVector<TV>
        where TColumns : struct, ITileColumns
        => TColumns.IsPartial && !TColumns.IsPair ? TV.LoadPartial(source, lanes) : TV.Load(source);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static TV LoadRight<TV, TColumns>(float* source, int lanes)
        where TV : struct, IFloatVector<TV>
        where TColumns : struct, ITileColumns
        => !TColumns.IsPair ? TV.Zero : TColumns.IsPartial ? TV.LoadPartial(source + TV.Count, lanes) : TV.Load(source + TV.Count);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Write<TV, TColumns>(float* target, TV left, TV right, int lanes, TV factor, bool accumulate)
        where TV : struct, IFloatVector<TV>
        where TColumns : struct, ITileColumns
    {
        left *= factor;
        right *= factor;
        if (accumulate)
        {
            left += LoadLeft<TV, TColumns>(target, lanes);
            right += LoadRight<TV, TColumns>(target, lanes);
        }

        if (TColumns.IsPair)
        {
            left.Store(target);
            if (TColumns.IsPartial)
            {
                right.StorePartial(target + TV.Count, lanes);
            }
            else
            {
                right.Store(target + TV.Count);
            }
        }
        else if (TColumns.IsPartial)
        {
            left.StorePartial(target, lanes);
        }
        else
        {
            left.Store(target);
        }
    }

    /// <summary>Two whole vectors of columns.</summary>
    public readonly struct Pair : ITileColumns
    {
        public static bool IsPair => true;

        public static bool IsPartial => false;
    }

    /// <summary>One whole vector and a part of one.</summary>
    public readonly struct PartialPair : ITileColumns
    {
        public static bool IsPair => true;

        public static bool IsPartial => true;
    }

    /// <summary>One whole vector.</summary>
    public readonly struct Single : ITileColumns
    {
        public static bool IsPair => false;

        public static bool IsPartial => false;
    }

    /// <summary>Part of one vector.</summary>
    public readonly struct PartialSingle : ITileColumns
    {
        public static bool IsPair => false;

        public static bool IsPartial => true;
    }
}
