using System.Runtime.CompilerServices;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Operators;

/// <summary>
/// Sums over one row and additions to one, for norms and gradients of parameters. Several accumulators hide the latency of additions; the order of additions depends on the length and the
/// vector width only. Not inlined: each is long enough to be worth a call, and within a longer method the JIT would run out of its budget for inlining.
/// </summary>
internal static unsafe class RowMath
{
    /// <summary>sum x_i.</summary>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
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

        for (; i + TV.Count <= count; i += TV.Count)
        {
            a += TV.Load(x + i);
        }

        return ((a + b) + (c + (d + TV.LoadPartial(x + i, count - i)))).Sum();
    }

    /// <summary>sum (x_i - center)^2.</summary>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    public static float SumOfSquaredDifferences<TV>(float* x, float center, int count)
        where TV : struct, IFloatVector<TV>
    {
        TV middle = TV.Broadcast(center);
        TV a = TV.Zero, b = TV.Zero;
        int i = 0;
        for (; i + (2 * TV.Count) <= count; i += 2 * TV.Count)
        {
            TV first = TV.Load(x + i) - middle;
            TV second = TV.Load(x + i + TV.Count) - middle;
            a = TV.MultiplyAdd(first, first, a);
            b = TV.MultiplyAdd(second, second, b);
        }

        float sum = (a + b).Sum();
        for (; i < count; i++)
        {
            sum += (x[i] - center) * (x[i] - center);
        }

        return sum;
    }

    /// <summary>sum x_i y_i.</summary>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
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

        for (; i + TV.Count <= count; i += TV.Count)
        {
            a = TV.MultiplyAdd(TV.Load(x + i), TV.Load(y + i), a);
        }

        int rest = count - i;
        d = TV.MultiplyAdd(TV.LoadPartial(x + i, rest), TV.LoadPartial(y + i, rest), d);
        return ((a + b) + (c + d)).Sum();
    }

    /// <summary>sum x_i^2.</summary>
    public static float SumOfSquares<TV>(float* x, int count)
        where TV : struct, IFloatVector<TV>
        => Dot<TV>(x, x, count);

    /// <summary>sum w_i x_i y_i.</summary>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    public static float WeightedDot<TV>(float* weight, float* x, float* y, int count)
        where TV : struct, IFloatVector<TV>
    {
        TV a = TV.Zero, b = TV.Zero;
        int i = 0;
        for (; i + (2 * TV.Count) <= count; i += 2 * TV.Count)
        {
            a = TV.MultiplyAdd(TV.Load(weight + i) * TV.Load(x + i), TV.Load(y + i), a);
            b = TV.MultiplyAdd(TV.Load(weight + i + TV.Count) * TV.Load(x + i + TV.Count), TV.Load(y + i + TV.Count), b);
        }

        for (; i + TV.Count <= count; i += TV.Count)
        {
            a = TV.MultiplyAdd(TV.Load(weight + i) * TV.Load(x + i), TV.Load(y + i), a);
        }

        int rest = count - i;
        b = TV.MultiplyAdd(TV.LoadPartial(weight + i, rest) * TV.LoadPartial(x + i, rest), TV.LoadPartial(y + i, rest), b);
        return (a + b).Sum();
    }

    /// <summary>sum w_i x_i (y_i - center).</summary>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    public static float WeightedDotOfDifferences<TV>(float* weight, float* x, float* y, float center, int count)
        where TV : struct, IFloatVector<TV>
    {
        TV middle = TV.Broadcast(center);
        TV a = TV.Zero, b = TV.Zero;
        int i = 0;
        for (; i + (2 * TV.Count) <= count; i += 2 * TV.Count)
        {
            a = TV.MultiplyAdd(TV.Load(weight + i) * TV.Load(x + i), TV.Load(y + i) - middle, a);
            b = TV.MultiplyAdd(TV.Load(weight + i + TV.Count) * TV.Load(x + i + TV.Count), TV.Load(y + i + TV.Count) - middle, b);
        }

        float sum = (a + b).Sum();
        for (; i < count; i++)
        {
            sum += weight[i] * x[i] * (y[i] - center);
        }

        return sum;
    }

    /// <summary>y_i += x_i.</summary>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    public static void AddTo<TV>(float* x, float* y, int count)
        where TV : struct, IFloatVector<TV>
    {
        int i = 0;
        for (; i + (2 * TV.Count) <= count; i += 2 * TV.Count)
        {
            (TV.Load(y + i) + TV.Load(x + i)).Store(y + i);
            (TV.Load(y + i + TV.Count) + TV.Load(x + i + TV.Count)).Store(y + i + TV.Count);
        }

        for (; i + TV.Count <= count; i += TV.Count)
        {
            (TV.Load(y + i) + TV.Load(x + i)).Store(y + i);
        }

        int rest = count - i;
        (TV.LoadPartial(y + i, rest) + TV.LoadPartial(x + i, rest)).StorePartial(y + i, rest);
    }

    /// <summary>y_i += a_i b_i.</summary>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    public static void AddProductTo<TV>(float* a, float* b, float* y, int count)
        where TV : struct, IFloatVector<TV>
    {
        int i = 0;
        for (; i + TV.Count <= count; i += TV.Count)
        {
            TV.MultiplyAdd(TV.Load(a + i), TV.Load(b + i), TV.Load(y + i)).Store(y + i);
        }

        int rest = count - i;
        TV.MultiplyAdd(TV.LoadPartial(a + i, rest), TV.LoadPartial(b + i, rest), TV.LoadPartial(y + i, rest)).StorePartial(y + i, rest);
    }

    /// <summary>y_i += x_i + x_(i + stride) + x_(i + 2 stride) + x_(i + 3 stride): four rows at a time, so that y is read and written once for four.</summary>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    public static void AddFourTo<TV>(float* x, long stride, float* y, int count)
        where TV : struct, IFloatVector<TV>
    {
        int i = 0;
        for (; i + TV.Count <= count; i += TV.Count)
        {
            TV first = TV.Load(x + i) + TV.Load(x + i + stride);
            TV second = TV.Load(x + i + (2 * stride)) + TV.Load(x + i + (3 * stride));
            (TV.Load(y + i) + (first + second)).Store(y + i);
        }

        for (; i < count; i++)
        {
            y[i] += (x[i] + x[i + stride]) + (x[i + (2 * stride)] + x[i + (3 * stride)]);
        }
    }
}
