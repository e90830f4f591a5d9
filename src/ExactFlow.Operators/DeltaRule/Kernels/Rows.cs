using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics.X86;

namespace ExactFlow.Operators;

/// <summary>Elementwise work on single rows of exactly <c>count</c> elements; nothing beyond is touched.</summary>
/// <typeparam name="TL">Vector registers.</typeparam>
/// <typeparam name="T">float or double.</typeparam>
internal static unsafe class Rows<TL, T>
    where TL : struct, ILanes<TL, T>
    where T : unmanaged, IFloatingPointIeee754<T>
{
    /// <summary>The inner product of two rows.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static T Dot(T* x, T* y, int count)
    {
        TL even = TL.Zero;
        TL odd = TL.Zero;
        int i = 0;
        for (; i + (2 * TL.Count) <= count; i += 2 * TL.Count)
        {
            even = TL.MultiplyAdd(TL.Load(x + i), TL.Load(y + i), even);
            odd = TL.MultiplyAdd(TL.Load(x + i + TL.Count), TL.Load(y + i + TL.Count), odd);
        }

        for (; i < count; i += TL.Count)
        {
            int rest = count - i;
            even = rest >= TL.Count
                ? TL.MultiplyAdd(TL.Load(x + i), TL.Load(y + i), even)
                : TL.MultiplyAdd(TL.LoadPartial(x + i, rest), TL.LoadPartial(y + i, rest), even);
        }

        return (even + odd).Sum();
    }

    /// <summary>y = factor x.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Scale(T* x, T factor, T* y, int count)
    {
        TL f = TL.Broadcast(factor);
        int i = 0;
        for (; i + TL.Count <= count; i += TL.Count)
        {
            (f * TL.Load(x + i)).Store(y + i);
        }

        if (i < count)
        {
            (f * TL.LoadPartial(x + i, count - i)).StorePartial(y + i, count - i);
        }
    }

    /// <summary>y += factor x.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void AddScaled(T* x, T factor, T* y, int count)
    {
        TL f = TL.Broadcast(factor);
        int i = 0;
        for (; i + TL.Count <= count; i += TL.Count)
        {
            TL.MultiplyAdd(f, TL.Load(x + i), TL.Load(y + i)).Store(y + i);
        }

        if (i < count)
        {
            TL.MultiplyAdd(f, TL.LoadPartial(x + i, count - i), TL.LoadPartial(y + i, count - i)).StorePartial(y + i, count - i);
        }
    }

    /// <summary>y *= x, element by element.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void MultiplyBy(T* x, T* y, int count)
    {
        int i = 0;
        for (; i + TL.Count <= count; i += TL.Count)
        {
            (TL.Load(x + i) * TL.Load(y + i)).Store(y + i);
        }

        if (i < count)
        {
            (TL.LoadPartial(x + i, count - i) * TL.LoadPartial(y + i, count - i)).StorePartial(y + i, count - i);
        }
    }

    /// <summary>Fetches a row into the first cache; null, or beyond the end of a tensor, this does nothing.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Fetch(T* row, int count)
    {
        if (Sse.IsSupported)
        {
            for (int i = 0; i < count; i += TL.Count)
            {
                Sse.Prefetch0(row + i);
            }
        }
    }

    /// <summary>y = factor x, or y += factor x.</summary>
    public static void Write(T* x, T factor, T* y, int count, bool accumulate)
    {
        if (accumulate)
        {
            AddScaled(x, factor, y, count);
        }
        else
        {
            Scale(x, factor, y, count);
        }
    }

    /// <summary>Copies rows between layouts.</summary>
    public static void Copy(T* source, nint sourceRow, T* destination, nint destinationRow, int rows, int columns)
    {
        for (int i = 0; i < rows; i++)
        {
            Scale(source + (i * sourceRow), T.One, destination + (i * destinationRow), columns);
        }
    }

    /// <summary>Zeros the rows that round a number of rows up to a whole tile.</summary>
    public static void ClearPadding(T* tile, nint row, int rows)
    {
        int padded = (rows + Tile<TL, T>.Rows - 1) / Tile<TL, T>.Rows * Tile<TL, T>.Rows;
        new Span<T>(tile + (rows * row), checked((int)((padded - rows) * row))).Clear();
    }
}
