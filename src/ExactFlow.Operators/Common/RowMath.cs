using System.Runtime.CompilerServices;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Operators;

/// <summary>Sums over one row, for the norms. Four accumulators hide the latency of additions; the order of additions depends on the length and the vector width only.</summary>
internal static unsafe class RowMath
{
    /// <summary>sum x_i.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Sum<TV>(float* x, int count)
        where TV : struct, IFloatVector<TV>
    {
        TV a = TV.Zero, b = TV.Zero, c = TV.Zero, d = TV.Zero;
        int i = 0;
        for (; i + (4 * TV.Count) <= count; i += 4 * TV.Count)
        {
            a += TV.Load(x + i);
            b += TV.Load(x + i + TV.Count);
            c += TV.Load(x + i + (2 * TV.Count));
            d += TV.Load(x + i + (3 * TV.Count));
        }

        for (; i < count; i += TV.Count)
        {
            a += LoadUpTo<TV>(x + i, count - i);
        }

        return ((a + b) + (c + d)).Sum();
    }

    /// <summary>sum x_i^2.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float SumOfSquares<TV>(float* x, int count)
        where TV : struct, IFloatVector<TV>
        => Dot<TV>(x, x, count);

    /// <summary>sum x_i y_i.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Dot<TV>(float* x, float* y, int count)
        where TV : struct, IFloatVector<TV>
    {
        TV a = TV.Zero, b = TV.Zero, c = TV.Zero, d = TV.Zero;
        int i = 0;
        for (; i + (4 * TV.Count) <= count; i += 4 * TV.Count)
        {
            a = TV.MultiplyAdd(TV.Load(x + i), TV.Load(y + i), a);
            b = TV.MultiplyAdd(TV.Load(x + i + TV.Count), TV.Load(y + i + TV.Count), b);
            c = TV.MultiplyAdd(TV.Load(x + i + (2 * TV.Count)), TV.Load(y + i + (2 * TV.Count)), c);
            d = TV.MultiplyAdd(TV.Load(x + i + (3 * TV.Count)), TV.Load(y + i + (3 * TV.Count)), d);
        }

        for (; i < count; i += TV.Count)
        {
            a = TV.MultiplyAdd(LoadUpTo<TV>(x + i, count - i), LoadUpTo<TV>(y + i, count - i), a);
        }

        return ((a + b) + (c + d)).Sum();
    }

    /// <summary>A whole vector, or the first <paramref name="count"/> lanes and zeros where fewer are left.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TV LoadUpTo<TV>(float* source, int count)
        where TV : struct, IFloatVector<TV>
        => count >= TV.Count ? TV.Load(source) : TV.LoadPartial(source, count);

    /// <summary>Stores a whole vector, or the first <paramref name="count"/> lanes where fewer are left.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StoreUpTo<TV>(TV value, float* destination, int count)
        where TV : struct, IFloatVector<TV>
    {
        if (count >= TV.Count)
        {
            value.Store(destination);
        }
        else
        {
            value.StorePartial(destination, count);
        }
    }
}
