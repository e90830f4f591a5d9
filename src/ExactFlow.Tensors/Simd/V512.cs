using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace ExactFlow.Tensors.Simd;

/// <summary>Sixteen floats in an AVX-512 register.</summary>
/// <param name="value">The register.</param>
public readonly unsafe struct V512(Vector512<float> value) : IFloatVector<V512>
{
    private readonly Vector512<float> value = value;

    /// <inheritdoc/>
    public static int Count => 16;

    /// <inheritdoc/>
    public static V512 Zero => new(Vector512<float>.Zero);

    /// <summary>The register itself, for a kernel that needs an instruction not offered here.</summary>
    public Vector512<float> Value => value;

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V512 Broadcast(float value) => new(Vector512.Create(value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V512 Load(float* source) => new(Vector512.Load(source));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V512 LoadPartial(float* source, int count) => new(Avx512F.MaskLoad(source, FirstLanes(count), Vector512<float>.Zero));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V512 operator +(V512 left, V512 right) => new(left.value + right.value);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V512 operator -(V512 left, V512 right) => new(left.value - right.value);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V512 operator -(V512 value) => new(-value.value);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V512 operator *(V512 left, V512 right) => new(left.value * right.value);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V512 operator /(V512 left, V512 right) => new(left.value / right.value);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V512 operator &(V512 left, V512 right) => new(left.value & right.value);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V512 operator |(V512 left, V512 right) => new(left.value | right.value);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V512 MultiplyAdd(V512 a, V512 b, V512 c) => new(Vector512.MultiplyAddEstimate(a.value, b.value, c.value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V512 NegatedMultiplyAdd(V512 a, V512 b, V512 c) => new(Vector512.MultiplyAddEstimate(-a.value, b.value, c.value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V512 Min(V512 left, V512 right) => new(Vector512.MinNative(left.value, right.value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V512 Max(V512 left, V512 right) => new(Vector512.MaxNative(left.value, right.value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V512 Abs(V512 value) => new(Vector512.Abs(value.value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V512 Sqrt(V512 value) => new(Vector512.Sqrt(value.value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V512 Round(V512 value) => new(Vector512.Round(value.value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V512 CopySign(V512 magnitude, V512 sign) => new(Vector512.ConditionalSelect(Vector512.Create(-0f), sign.value, magnitude.value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V512 LessThan(V512 left, V512 right) => new(Vector512.LessThan(left.value, right.value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V512 LessThanOrEqual(V512 left, V512 right) => new(Vector512.LessThanOrEqual(left.value, right.value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V512 Equal(V512 left, V512 right) => new(Vector512.Equals(left.value, right.value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V512 Select(V512 mask, V512 whenTrue, V512 whenFalse) => new(Vector512.ConditionalSelect(mask.value, whenTrue.value, whenFalse.value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V512 ScaleByPowerOfTwo(V512 value, V512 exponent) => new(Avx512F.Scale(value.value, exponent.value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V512 SplitExponent(V512 value, out V512 exponent)
    {
        // Subnormal numbers are lifted by 2^24 first. Subtracting the bits of sqrt(1/2) puts the boundary between exponents there instead of at 1:
        // what is left above the mantissa field is the exponent wanted, and the field itself, with those bits added back, the mantissa.
        Vector512<float> isSubnormal = Vector512.LessThan(value.value, Vector512.Create(FloatBits.SmallestNormal));
        Vector512<float> normal = Vector512.ConditionalSelect(isSubnormal, value.value * 16777216f, value.value);
        Vector512<int> shifted = normal.AsInt32() - Vector512.Create(FloatBits.SqrtHalf);
        exponent = new(Vector512.ConvertToSingle(shifted >> FloatBits.MantissaBits) - (isSubnormal & Vector512.Create(24f)));
        return new(((shifted & Vector512.Create(FloatBits.MantissaMask)) + Vector512.Create(FloatBits.SqrtHalf)).AsSingle());
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void TransposeBlock(float* source, nint sourceStride, int rows, float* destination, nint destinationStride)
    {
        // Rows of sixteen lanes, four quarters. Within each quarter: rows interleaved by single lanes (pXX), then by pairs (qXX, holding one column
        // of four rows per quarter); then quarters are gathered from pairs of those (sXX) and from pairs of pairs.
        Vector512<float> r0 = Vector512.Load(source);
        Vector512<float> r1 = rows > 1 ? Vector512.Load(source + (1 * sourceStride)) : default;
        Vector512<float> r2 = rows > 2 ? Vector512.Load(source + (2 * sourceStride)) : default;
        Vector512<float> r3 = rows > 3 ? Vector512.Load(source + (3 * sourceStride)) : default;
        Vector512<float> r4 = rows > 4 ? Vector512.Load(source + (4 * sourceStride)) : default;
        Vector512<float> r5 = rows > 5 ? Vector512.Load(source + (5 * sourceStride)) : default;
        Vector512<float> r6 = rows > 6 ? Vector512.Load(source + (6 * sourceStride)) : default;
        Vector512<float> r7 = rows > 7 ? Vector512.Load(source + (7 * sourceStride)) : default;
        Vector512<float> r8 = rows > 8 ? Vector512.Load(source + (8 * sourceStride)) : default;
        Vector512<float> r9 = rows > 9 ? Vector512.Load(source + (9 * sourceStride)) : default;
        Vector512<float> r10 = rows > 10 ? Vector512.Load(source + (10 * sourceStride)) : default;
        Vector512<float> r11 = rows > 11 ? Vector512.Load(source + (11 * sourceStride)) : default;
        Vector512<float> r12 = rows > 12 ? Vector512.Load(source + (12 * sourceStride)) : default;
        Vector512<float> r13 = rows > 13 ? Vector512.Load(source + (13 * sourceStride)) : default;
        Vector512<float> r14 = rows > 14 ? Vector512.Load(source + (14 * sourceStride)) : default;
        Vector512<float> r15 = rows > 15 ? Vector512.Load(source + (15 * sourceStride)) : default;
        Vector512<float> p0 = Avx512F.UnpackLow(r0, r1);
        Vector512<float> p1 = Avx512F.UnpackHigh(r0, r1);
        Vector512<float> p2 = Avx512F.UnpackLow(r2, r3);
        Vector512<float> p3 = Avx512F.UnpackHigh(r2, r3);
        Vector512<float> p4 = Avx512F.UnpackLow(r4, r5);
        Vector512<float> p5 = Avx512F.UnpackHigh(r4, r5);
        Vector512<float> p6 = Avx512F.UnpackLow(r6, r7);
        Vector512<float> p7 = Avx512F.UnpackHigh(r6, r7);
        Vector512<float> p8 = Avx512F.UnpackLow(r8, r9);
        Vector512<float> p9 = Avx512F.UnpackHigh(r8, r9);
        Vector512<float> p10 = Avx512F.UnpackLow(r10, r11);
        Vector512<float> p11 = Avx512F.UnpackHigh(r10, r11);
        Vector512<float> p12 = Avx512F.UnpackLow(r12, r13);
        Vector512<float> p13 = Avx512F.UnpackHigh(r12, r13);
        Vector512<float> p14 = Avx512F.UnpackLow(r14, r15);
        Vector512<float> p15 = Avx512F.UnpackHigh(r14, r15);
        Vector512<float> q0 = Avx512F.Shuffle(p0, p2, 0x44);
        Vector512<float> q1 = Avx512F.Shuffle(p0, p2, 0xEE);
        Vector512<float> q2 = Avx512F.Shuffle(p1, p3, 0x44);
        Vector512<float> q3 = Avx512F.Shuffle(p1, p3, 0xEE);
        Vector512<float> q4 = Avx512F.Shuffle(p4, p6, 0x44);
        Vector512<float> q5 = Avx512F.Shuffle(p4, p6, 0xEE);
        Vector512<float> q6 = Avx512F.Shuffle(p5, p7, 0x44);
        Vector512<float> q7 = Avx512F.Shuffle(p5, p7, 0xEE);
        Vector512<float> q8 = Avx512F.Shuffle(p8, p10, 0x44);
        Vector512<float> q9 = Avx512F.Shuffle(p8, p10, 0xEE);
        Vector512<float> q10 = Avx512F.Shuffle(p9, p11, 0x44);
        Vector512<float> q11 = Avx512F.Shuffle(p9, p11, 0xEE);
        Vector512<float> q12 = Avx512F.Shuffle(p12, p14, 0x44);
        Vector512<float> q13 = Avx512F.Shuffle(p12, p14, 0xEE);
        Vector512<float> q14 = Avx512F.Shuffle(p13, p15, 0x44);
        Vector512<float> q15 = Avx512F.Shuffle(p13, p15, 0xEE);
        Vector512<float> even0 = Avx512F.Shuffle4x128(q0, q4, 0x88);
        Vector512<float> odd0 = Avx512F.Shuffle4x128(q0, q4, 0xDD);
        Vector512<float> even8 = Avx512F.Shuffle4x128(q8, q12, 0x88);
        Vector512<float> odd8 = Avx512F.Shuffle4x128(q8, q12, 0xDD);
        Vector512<float> even1 = Avx512F.Shuffle4x128(q1, q5, 0x88);
        Vector512<float> odd1 = Avx512F.Shuffle4x128(q1, q5, 0xDD);
        Vector512<float> even9 = Avx512F.Shuffle4x128(q9, q13, 0x88);
        Vector512<float> odd9 = Avx512F.Shuffle4x128(q9, q13, 0xDD);
        Vector512<float> even2 = Avx512F.Shuffle4x128(q2, q6, 0x88);
        Vector512<float> odd2 = Avx512F.Shuffle4x128(q2, q6, 0xDD);
        Vector512<float> even10 = Avx512F.Shuffle4x128(q10, q14, 0x88);
        Vector512<float> odd10 = Avx512F.Shuffle4x128(q10, q14, 0xDD);
        Vector512<float> even3 = Avx512F.Shuffle4x128(q3, q7, 0x88);
        Vector512<float> odd3 = Avx512F.Shuffle4x128(q3, q7, 0xDD);
        Vector512<float> even11 = Avx512F.Shuffle4x128(q11, q15, 0x88);
        Vector512<float> odd11 = Avx512F.Shuffle4x128(q11, q15, 0xDD);
        Avx512F.Shuffle4x128(even0, even8, 0x88).Store(destination);
        Avx512F.Shuffle4x128(even1, even9, 0x88).Store(destination + destinationStride);
        Avx512F.Shuffle4x128(even2, even10, 0x88).Store(destination + (2 * destinationStride));
        Avx512F.Shuffle4x128(even3, even11, 0x88).Store(destination + (3 * destinationStride));
        Avx512F.Shuffle4x128(odd0, odd8, 0x88).Store(destination + (4 * destinationStride));
        Avx512F.Shuffle4x128(odd1, odd9, 0x88).Store(destination + (5 * destinationStride));
        Avx512F.Shuffle4x128(odd2, odd10, 0x88).Store(destination + (6 * destinationStride));
        Avx512F.Shuffle4x128(odd3, odd11, 0x88).Store(destination + (7 * destinationStride));
        Avx512F.Shuffle4x128(even0, even8, 0xDD).Store(destination + (8 * destinationStride));
        Avx512F.Shuffle4x128(even1, even9, 0xDD).Store(destination + (9 * destinationStride));
        Avx512F.Shuffle4x128(even2, even10, 0xDD).Store(destination + (10 * destinationStride));
        Avx512F.Shuffle4x128(even3, even11, 0xDD).Store(destination + (11 * destinationStride));
        Avx512F.Shuffle4x128(odd0, odd8, 0xDD).Store(destination + (12 * destinationStride));
        Avx512F.Shuffle4x128(odd1, odd9, 0xDD).Store(destination + (13 * destinationStride));
        Avx512F.Shuffle4x128(odd2, odd10, 0xDD).Store(destination + (14 * destinationStride));
        Avx512F.Shuffle4x128(odd3, odd11, 0xDD).Store(destination + (15 * destinationStride));
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Store(float* destination) => value.Store(destination);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void StorePartial(float* destination, int count) => Avx512F.MaskStore(destination, FirstLanes(count), value);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public float Sum() => new V256(value.GetLower() + value.GetUpper()).Sum();

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public float Largest() => new V256(Vector256.MaxNative(value.GetLower(), value.GetUpper())).Largest();

    private static Vector512<float> FirstLanes(int count) => Vector512.LessThan(Vector512<int>.Indices, Vector512.Create(count)).AsSingle();
}
