using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace ExactFlow.Tensors.Simd;

/// <summary>Eight floats in an AVX register.</summary>
/// <param name="value">The register.</param>
public readonly unsafe struct V256(Vector256<float> value) : IFloatVector<V256>
{
    private readonly Vector256<float> value = value;

    /// <inheritdoc/>
    public static int Count => 8;

    /// <inheritdoc/>
    public static V256 Zero => new(Vector256<float>.Zero);

    /// <summary>The register itself, for a kernel that needs an instruction not offered here.</summary>
    public Vector256<float> Value => value;

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V256 Broadcast(float value) => new(Vector256.Create(value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V256 Load(float* source) => new(Vector256.Load(source));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V256 LoadPartial(float* source, int count) => new(Avx.MaskLoad(source, FirstLanes(count)));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V256 operator +(V256 left, V256 right) => new(left.value + right.value);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V256 operator -(V256 left, V256 right) => new(left.value - right.value);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V256 operator -(V256 value) => new(-value.value);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V256 operator *(V256 left, V256 right) => new(left.value * right.value);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V256 operator /(V256 left, V256 right) => new(left.value / right.value);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V256 operator &(V256 left, V256 right) => new(left.value & right.value);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V256 operator |(V256 left, V256 right) => new(left.value | right.value);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V256 MultiplyAdd(V256 a, V256 b, V256 c) => new(Vector256.MultiplyAddEstimate(a.value, b.value, c.value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V256 NegatedMultiplyAdd(V256 a, V256 b, V256 c) => new(Vector256.MultiplyAddEstimate(-a.value, b.value, c.value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V256 Min(V256 left, V256 right) => new(Vector256.MinNative(left.value, right.value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V256 Max(V256 left, V256 right) => new(Vector256.MaxNative(left.value, right.value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V256 Abs(V256 value) => new(Vector256.Abs(value.value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V256 Sqrt(V256 value) => new(Vector256.Sqrt(value.value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V256 Round(V256 value) => new(Vector256.Round(value.value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V256 CopySign(V256 magnitude, V256 sign) => new(Vector256.ConditionalSelect(Vector256.Create(-0f), sign.value, magnitude.value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V256 LessThan(V256 left, V256 right) => new(Vector256.LessThan(left.value, right.value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V256 LessThanOrEqual(V256 left, V256 right) => new(Vector256.LessThanOrEqual(left.value, right.value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V256 Equal(V256 left, V256 right) => new(Vector256.Equals(left.value, right.value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V256 Select(V256 mask, V256 whenTrue, V256 whenFalse) => new(Vector256.ConditionalSelect(mask.value, whenTrue.value, whenFalse.value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V256 ScaleByPowerOfTwo(V256 value, V256 exponent)
    {
        // Two factors, each a normal number, so that results below the normal range are rounded once, by the last product.
        Vector256<int> whole = Vector256.ConvertToInt32(exponent.value);
        Vector256<int> half = whole >> 1;
        return new(value.value * PowerOfTwo(half) * PowerOfTwo(whole - half));
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V256 SplitExponent(V256 value, out V256 exponent)
    {
        // Subnormal numbers are lifted by 2^24 first. Subtracting the bits of sqrt(1/2) puts the boundary between exponents there instead of at 1:
        // what is left above the mantissa field is the exponent wanted, and the field itself, with those bits added back, the mantissa.
        Vector256<float> isSubnormal = Vector256.LessThan(value.value, Vector256.Create(FloatBits.SmallestNormal));
        Vector256<float> normal = Vector256.ConditionalSelect(isSubnormal, value.value * 16777216f, value.value);
        Vector256<int> shifted = normal.AsInt32() - Vector256.Create(FloatBits.SqrtHalf);
        exponent = new(Vector256.ConvertToSingle(shifted >> FloatBits.MantissaBits) - (isSubnormal & Vector256.Create(24f)));
        return new(((shifted & Vector256.Create(FloatBits.MantissaMask)) + Vector256.Create(FloatBits.SqrtHalf)).AsSingle());
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void TransposeBlock(float* source, nint sourceStride, int rows, float* destination, nint destinationStride)
    {
        // Rows of eight lanes. Within each half: rows interleaved by single lanes (pXX), then by pairs (qXX); at last the halves are exchanged.
        Vector256<float> r0 = Vector256.Load(source);
        Vector256<float> r1 = rows > 1 ? Vector256.Load(source + (1 * sourceStride)) : default;
        Vector256<float> r2 = rows > 2 ? Vector256.Load(source + (2 * sourceStride)) : default;
        Vector256<float> r3 = rows > 3 ? Vector256.Load(source + (3 * sourceStride)) : default;
        Vector256<float> r4 = rows > 4 ? Vector256.Load(source + (4 * sourceStride)) : default;
        Vector256<float> r5 = rows > 5 ? Vector256.Load(source + (5 * sourceStride)) : default;
        Vector256<float> r6 = rows > 6 ? Vector256.Load(source + (6 * sourceStride)) : default;
        Vector256<float> r7 = rows > 7 ? Vector256.Load(source + (7 * sourceStride)) : default;
        Vector256<float> p0 = Avx.UnpackLow(r0, r1);
        Vector256<float> p1 = Avx.UnpackHigh(r0, r1);
        Vector256<float> p2 = Avx.UnpackLow(r2, r3);
        Vector256<float> p3 = Avx.UnpackHigh(r2, r3);
        Vector256<float> p4 = Avx.UnpackLow(r4, r5);
        Vector256<float> p5 = Avx.UnpackHigh(r4, r5);
        Vector256<float> p6 = Avx.UnpackLow(r6, r7);
        Vector256<float> p7 = Avx.UnpackHigh(r6, r7);
        Vector256<float> q0 = Avx.Shuffle(p0, p2, 0x44);
        Vector256<float> q1 = Avx.Shuffle(p0, p2, 0xEE);
        Vector256<float> q2 = Avx.Shuffle(p1, p3, 0x44);
        Vector256<float> q3 = Avx.Shuffle(p1, p3, 0xEE);
        Vector256<float> q4 = Avx.Shuffle(p4, p6, 0x44);
        Vector256<float> q5 = Avx.Shuffle(p4, p6, 0xEE);
        Vector256<float> q6 = Avx.Shuffle(p5, p7, 0x44);
        Vector256<float> q7 = Avx.Shuffle(p5, p7, 0xEE);
        Avx.Permute2x128(q0, q4, 0x20).Store(destination);
        Avx.Permute2x128(q1, q5, 0x20).Store(destination + destinationStride);
        Avx.Permute2x128(q2, q6, 0x20).Store(destination + (2 * destinationStride));
        Avx.Permute2x128(q3, q7, 0x20).Store(destination + (3 * destinationStride));
        Avx.Permute2x128(q0, q4, 0x31).Store(destination + (4 * destinationStride));
        Avx.Permute2x128(q1, q5, 0x31).Store(destination + (5 * destinationStride));
        Avx.Permute2x128(q2, q6, 0x31).Store(destination + (6 * destinationStride));
        Avx.Permute2x128(q3, q7, 0x31).Store(destination + (7 * destinationStride));
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Store(float* destination) => value.Store(destination);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void StorePartial(float* destination, int count) => Avx.MaskStore(destination, FirstLanes(count), value);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public float Sum() => new V128(value.GetLower() + value.GetUpper()).Sum();

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public float Largest() => new V128(Vector128.MaxNative(value.GetLower(), value.GetUpper())).Largest();

    private static Vector256<float> FirstLanes(int count) => Vector256.LessThan(Vector256<int>.Indices, Vector256.Create(count)).AsSingle();

    private static Vector256<float> PowerOfTwo(Vector256<int> exponent) => ((exponent + Vector256.Create(FloatBits.ExponentBias)) << FloatBits.MantissaBits).AsSingle();
}
