using System.Runtime.CompilerServices;

namespace ExactFlow.Tensors.Simd;

/// <summary>
/// Elementary functions in float32, one source for all vector widths. The errors stated hold at every width, with and without
/// fused multiply-add, in units in the last place (ULP) of the float32 result: tests assert them against float64 over dense sweeps of all floats.
/// Infinities and NaN give what the limit or the function gives; NaN gives NaN. Results below 2^-126 are rounded gradually, not flushed to zero.
/// </summary>
/// <remarks>The polynomials are minimax fits (Remez exchange, in double) made for the intervals given, weighted for relative error of the result.</remarks>
public static class SimdMath
{
    private const float Log2OfE = 1.44269504f;

    // ln 2 in two parts: the first has nine significant bits, so its product with an exponent is exact, fused or not.
    private const float Ln2High = 0.693359375f;
    private const float Ln2Low = -2.12194440e-4f;

    /// <summary>e^x, within 1.1 ULP. Overflows to infinity above 88.7228, reaches 0 below -103.97.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TV Exp<TV>(TV x)
        where TV : struct, IFloatVector<TV>
    {
        // The limits leave room for the overflow and the underflow to happen in the scaling; a NaN comes through as the right operand.
        x = TV.Min(TV.Broadcast(89.5f), TV.Max(TV.Broadcast(-104.5f), x));
        TV exponent = TV.Round(x * TV.Broadcast(Log2OfE));
        TV tail = Expm1Reduced(Reduce(x, exponent));
        return TV.ScaleByPowerOfTwo(tail + TV.Broadcast(1), exponent);
    }

    /// <summary>e^x - 1, accurate near 0 too: within 1.6 ULP.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TV Expm1<TV>(TV x)
        where TV : struct, IFloatVector<TV>
    {
        TV limited = TV.Min(TV.Broadcast(88.9f), TV.Max(TV.Broadcast(-20), x));
        TV exponent = TV.Round(limited * TV.Broadcast(Log2OfE));
        TV tail = Expm1Reduced(Reduce(limited, exponent));

        // 2^n (e^r - 1) + (2^n - 1), at half scale because 2^128 is no float.
        TV half = TV.ScaleByPowerOfTwo(TV.Broadcast(0.5f), exponent);
        TV result = TV.MultiplyAdd(half, tail, half - TV.Broadcast(0.5f));
        result += result;
        return TV.Select(TV.Equal(x, TV.Zero), x, result);
    }

    /// <summary>The natural logarithm, within 1.1 ULP: -infinity at 0, NaN below.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TV Log<TV>(TV x)
        where TV : struct, IFloatVector<TV>
    {
        TV mantissa = TV.SplitExponent(x, out TV exponent);
        TV result = LogOfParts(mantissa - TV.Broadcast(1), exponent);
        return LogSpecials(x, result);
    }

    /// <summary>ln(1 + x), accurate near 0 too, within 1.6 ULP: -infinity at -1, NaN below.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TV Log1p<TV>(TV x)
        where TV : struct, IFloatVector<TV>
    {
        // What rounding 1 + x lost is added back to the mantissa: exact for x near 0, where the exponent is 0.
        TV one = TV.Broadcast(1);
        TV sum = x + one;
        TV lost = TV.Select(TV.LessThan(x, one), x - (sum - one), one - (sum - x));
        TV mantissa = TV.SplitExponent(sum, out TV exponent);
        TV fraction = (mantissa - one) + TV.ScaleByPowerOfTwo(lost, -exponent);
        TV result = LogSpecials(sum, LogOfParts(fraction, exponent));
        return TV.Select(TV.Equal(x, TV.Zero), x, result);
    }

    /// <summary>1 / (1 + e^-x), within 2.6 ULP.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TV Sigmoid<TV>(TV x)
        where TV : struct, IFloatVector<TV>
    {
        // The exponential of -|x| never overflows: z / (1 + z) on the left, 1 / (1 + z) on the right.
        TV one = TV.Broadcast(1);
        TV z = Exp(-TV.Abs(x));
        return TV.Select(TV.LessThan(x, TV.Zero), z, one) / (one + z);
    }

    /// <summary>The hyperbolic tangent, within 2.6 ULP.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TV Tanh<TV>(TV x)
        where TV : struct, IFloatVector<TV>
    {
        // tanh a = t / (t + 2) with t = e^2a - 1; 1 to the last bit beyond 9.02.
        TV magnitude = TV.Min(TV.Broadcast(10), TV.Abs(x));
        TV t = Expm1(magnitude + magnitude);
        return TV.CopySign(t / (t + TV.Broadcast(2)), x);
    }

    /// <summary>ln(1 + e^x), within 2.1 ULP.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TV Softplus<TV>(TV x)
        where TV : struct, IFloatVector<TV>
        => TV.Max(TV.Zero, x) + Log1p(Exp(-TV.Abs(x)));

    /// <summary>x / (1 + e^-x), within 3.1 ULP. Left of -87, where the sigmoid is subnormal, its rounding adds up to 2^-143 to the error. 0 at -infinity.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TV Silu<TV>(TV x)
        where TV : struct, IFloatVector<TV>
    {
        // Left of -128 the sigmoid is 0, and -infinity times 0 would be NaN.
        return TV.Max(TV.Broadcast(-128), x) * Sigmoid(x);
    }

    /// <summary>The error function, 2 / sqrt(pi) times the integral of e^(-t^2) from 0 to x; within 1.6 ULP.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TV Erf<TV>(TV x)
        where TV : struct, IFloatVector<TV>
    {
        TV magnitude = TV.Abs(x);
        TV square = x * x;

        // |x| < 1: x + x P(x^2).
        TV p = TV.Broadcast(7.85386364441365e-05f);
        p = TV.MultiplyAdd(p, square, TV.Broadcast(-0.0008010194287635386f));
        p = TV.MultiplyAdd(p, square, TV.Broadcast(0.005188327748328447f));
        p = TV.MultiplyAdd(p, square, TV.Broadcast(-0.026853812858462334f));
        p = TV.MultiplyAdd(p, square, TV.Broadcast(0.1128358542919159f));
        p = TV.MultiplyAdd(p, square, TV.Broadcast(-0.3761262595653534f));
        p = TV.MultiplyAdd(p, square, TV.Broadcast(0.12837916612625122f));
        TV inner = TV.MultiplyAdd(x, p, x);

        // 1 <= |x| < 4: 1 - e^Q(|x|), Q fitted to the logarithm of the complement; 1 to the last bit beyond.
        TV a = TV.Min(TV.Broadcast(4), magnitude);
        TV q = TV.Broadcast(-2.1697622287319973e-05f);
        q = TV.MultiplyAdd(q, a, TV.Broadcast(0.0004414727445691824f));
        q = TV.MultiplyAdd(q, a, TV.Broadcast(-0.00420528557151556f));
        q = TV.MultiplyAdd(q, a, TV.Broadcast(0.025210341438651085f));
        q = TV.MultiplyAdd(q, a, TV.Broadcast(-0.10842210054397583f));
        q = TV.MultiplyAdd(q, a, TV.Broadcast(-0.633216381072998f));
        q = TV.MultiplyAdd(q, a, TV.Broadcast(-1.1295802593231201f));
        q = TV.MultiplyAdd(q, a, TV.Broadcast(0.00018846840248443186f));
        TV outer = TV.CopySign(TV.Broadcast(1) - Exp(q), x);
        return TV.Select(TV.LessThan(magnitude, TV.Broadcast(1)), inner, outer);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static TV Reduce<TV>(TV x, TV exponent)
        where TV : struct, IFloatVector<TV>
        => TV.NegatedMultiplyAdd(exponent, TV.Broadcast(Ln2Low), TV.NegatedMultiplyAdd(exponent, TV.Broadcast(Ln2High), x));

    /// <summary>e^r - 1 for |r| up to ln(2) / 2: r + r^2 P(r), within 2^-32.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static TV Expm1Reduced<TV>(TV r)
        where TV : struct, IFloatVector<TV>
    {
        TV p = TV.Broadcast(0.0001984588598133996f);
        p = TV.MultiplyAdd(p, r, TV.Broadcast(0.0013940719654783607f));
        p = TV.MultiplyAdd(p, r, TV.Broadcast(0.008333389647305012f));
        p = TV.MultiplyAdd(p, r, TV.Broadcast(0.04166635870933533f));
        p = TV.MultiplyAdd(p, r, TV.Broadcast(0.1666666567325592f));
        p = TV.MultiplyAdd(p, r, TV.Broadcast(0.5f));
        return TV.MultiplyAdd(r * r, p, r);
    }

    /// <summary>ln((1 + f) 2^n) for 1 + f in [sqrt(1/2), sqrt(2)): f - f^2/2 + f^3 P(f) + n ln 2, within 2^-30.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static TV LogOfParts<TV>(TV f, TV exponent)
        where TV : struct, IFloatVector<TV>
    {
        TV p = TV.Broadcast(0.06747732311487198f);
        p = TV.MultiplyAdd(p, f, TV.Broadcast(-0.11677516251802444f));
        p = TV.MultiplyAdd(p, f, TV.Broadcast(0.11888696253299713f));
        p = TV.MultiplyAdd(p, f, TV.Broadcast(-0.12405339628458023f));
        p = TV.MultiplyAdd(p, f, TV.Broadcast(0.14219452440738678f));
        p = TV.MultiplyAdd(p, f, TV.Broadcast(-0.16668005287647247f));
        p = TV.MultiplyAdd(p, f, TV.Broadcast(0.20002123713493347f));
        p = TV.MultiplyAdd(p, f, TV.Broadcast(-0.25000008940696716f));
        p = TV.MultiplyAdd(p, f, TV.Broadcast(0.3333331346511841f));
        TV square = f * f;
        TV tail = TV.MultiplyAdd(square * f, p, exponent * TV.Broadcast(Ln2Low));
        tail = TV.NegatedMultiplyAdd(square, TV.Broadcast(0.5f), tail);
        return TV.MultiplyAdd(exponent, TV.Broadcast(Ln2High), f + tail);
    }

    /// <summary>Puts in the logarithms of 0, of negative numbers, of infinity and of NaN.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static TV LogSpecials<TV>(TV x, TV result)
        where TV : struct, IFloatVector<TV>
    {
        result = TV.Select(TV.LessThan(x, TV.Broadcast(float.PositiveInfinity)), result, x);
        result = TV.Select(TV.Equal(x, TV.Zero), TV.Broadcast(float.NegativeInfinity), result);
        return TV.Select(TV.LessThan(x, TV.Zero), TV.Broadcast(float.NaN), result);
    }
}
