using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace ExactFlow.Tensors.Simd;

/// <summary>Four floats in an SSE or NEON register. Runs without fused multiply-add too.</summary>
/// <param name="value">The register.</param>
public readonly unsafe struct V128(Vector128<float> value) : IFloatVector<V128>
{
    private readonly Vector128<float> value = value;

    /// <inheritdoc/>
    public static int Count => 4;

    /// <inheritdoc/>
    public static V128 Zero => new(Vector128<float>.Zero);

    /// <summary>The register itself, for a kernel that needs an instruction not offered here.</summary>
    public Vector128<float> Value => value;

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V128 Broadcast(float value) => new(Vector128.Create(value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V128 Load(float* source) => new(Vector128.Load(source));

    /// <inheritdoc/>
    public static V128 LoadPartial(float* source, int count)
    {
        float* lanes = stackalloc float[4];
        for (int i = 0; i < 4; i++)
        {
            lanes[i] = i < count ? source[i] : 0;
        }

        return Load(lanes);
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V128 operator +(V128 left, V128 right) => new(left.value + right.value);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V128 operator -(V128 left, V128 right) => new(left.value - right.value);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V128 operator -(V128 value) => new(-value.value);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V128 operator *(V128 left, V128 right) => new(left.value * right.value);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V128 operator /(V128 left, V128 right) => new(left.value / right.value);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V128 operator &(V128 left, V128 right) => new(left.value & right.value);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V128 operator |(V128 left, V128 right) => new(left.value | right.value);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V128 MultiplyAdd(V128 a, V128 b, V128 c) => new(Vector128.MultiplyAddEstimate(a.value, b.value, c.value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V128 NegatedMultiplyAdd(V128 a, V128 b, V128 c) => new(Vector128.MultiplyAddEstimate(-a.value, b.value, c.value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V128 Min(V128 left, V128 right) => new(Vector128.MinNative(left.value, right.value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V128 Max(V128 left, V128 right) => new(Vector128.MaxNative(left.value, right.value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V128 Abs(V128 value) => new(Vector128.Abs(value.value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V128 Sqrt(V128 value) => new(Vector128.Sqrt(value.value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V128 Round(V128 value) => new(Vector128.Round(value.value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V128 CopySign(V128 magnitude, V128 sign) => new(Vector128.ConditionalSelect(Vector128.Create(-0f), sign.value, magnitude.value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V128 LessThan(V128 left, V128 right) => new(Vector128.LessThan(left.value, right.value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V128 LessThanOrEqual(V128 left, V128 right) => new(Vector128.LessThanOrEqual(left.value, right.value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V128 Equal(V128 left, V128 right) => new(Vector128.Equals(left.value, right.value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V128 Select(V128 mask, V128 whenTrue, V128 whenFalse) => new(Vector128.ConditionalSelect(mask.value, whenTrue.value, whenFalse.value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V128 ScaleByPowerOfTwo(V128 value, V128 exponent)
    {
        // Two factors, each a normal number, so that results below the normal range are rounded once, by the last product.
        Vector128<int> whole = Vector128.ConvertToInt32(exponent.value);
        Vector128<int> half = whole >> 1;
        return new(value.value * PowerOfTwo(half) * PowerOfTwo(whole - half));
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V128 SplitExponent(V128 value, out V128 exponent)
    {
        // Subnormal numbers are lifted by 2^24 first. Subtracting the bits of sqrt(1/2) puts the boundary between exponents there instead of at 1:
        // what is left above the mantissa field is the exponent wanted, and the field itself, with those bits added back, the mantissa.
        Vector128<float> isSubnormal = Vector128.LessThan(value.value, Vector128.Create(FloatBits.SmallestNormal));
        Vector128<float> normal = Vector128.ConditionalSelect(isSubnormal, value.value * 16777216f, value.value);
        Vector128<int> shifted = normal.AsInt32() - Vector128.Create(FloatBits.SqrtHalf);
        exponent = new(Vector128.ConvertToSingle(shifted >> FloatBits.MantissaBits) - (isSubnormal & Vector128.Create(24f)));
        return new(((shifted & Vector128.Create(FloatBits.MantissaMask)) + Vector128.Create(FloatBits.SqrtHalf)).AsSingle());
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void TransposeBlock(float* source, nint sourceStride, int rows, float* destination, nint destinationStride)
    {
        // Rows r0..r3 of four lanes: pairs of rows are interleaved, then pairs of pairs.
        Vector128<float> r0 = Vector128.Load(source);
        Vector128<float> r1 = rows > 1 ? Vector128.Load(source + sourceStride) : default;
        Vector128<float> r2 = rows > 2 ? Vector128.Load(source + (2 * sourceStride)) : default;
        Vector128<float> r3 = rows > 3 ? Vector128.Load(source + (3 * sourceStride)) : default;
        Vector128<float> low01 = InterleaveLow(r0, r1);
        Vector128<float> high01 = InterleaveHigh(r0, r1);
        Vector128<float> low23 = InterleaveLow(r2, r3);
        Vector128<float> high23 = InterleaveHigh(r2, r3);
        Vector128.Create(low01.GetLower(), low23.GetLower()).Store(destination);
        Vector128.Create(low01.GetUpper(), low23.GetUpper()).Store(destination + destinationStride);
        Vector128.Create(high01.GetLower(), high23.GetLower()).Store(destination + (2 * destinationStride));
        Vector128.Create(high01.GetUpper(), high23.GetUpper()).Store(destination + (3 * destinationStride));
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Store(float* destination) => value.Store(destination);

    /// <inheritdoc/>
    public void StorePartial(float* destination, int count)
    {
        float* lanes = stackalloc float[4];
        value.Store(lanes);
        for (int i = 0; i < count; i++)
        {
            destination[i] = lanes[i];
        }
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public float Sum() => (value[0] + value[2]) + (value[1] + value[3]);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public float Largest() => MathF.Max(MathF.Max(value[0], value[2]), MathF.Max(value[1], value[3]));

    /// <summary>a0 b0 a1 b1.</summary>
    private static Vector128<float> InterleaveLow(Vector128<float> a, Vector128<float> b)
        => Vector128.Shuffle(Vector128.Create(a.GetLower(), b.GetLower()), Vector128.Create(0, 2, 1, 3));

    /// <summary>a2 b2 a3 b3.</summary>
    private static Vector128<float> InterleaveHigh(Vector128<float> a, Vector128<float> b)
        => Vector128.Shuffle(Vector128.Create(a.GetUpper(), b.GetUpper()), Vector128.Create(0, 2, 1, 3));

    private static Vector128<float> PowerOfTwo(Vector128<int> exponent) => ((exponent + Vector128.Create(FloatBits.ExponentBias)) << FloatBits.MantissaBits).AsSingle();
}
