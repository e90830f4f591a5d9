using System.Runtime.CompilerServices;

namespace ExactFlow.Tensors.Simd;

/// <summary>One float, as a vector of one lane: the level that runs anywhere, and the one to compare the others with.</summary>
/// <param name="value">The number.</param>
public readonly unsafe struct V1(float value) : IFloatVector<V1>
{
    private readonly float value = value;

    /// <inheritdoc/>
    public static int Count => 1;

    /// <inheritdoc/>
    public static V1 Zero => default;

    /// <summary>The number itself.</summary>
    public float Value => value;

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V1 Broadcast(float value) => new(value);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V1 Load(float* source) => new(*source);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V1 LoadPartial(float* source, int count) => count > 0 ? new(*source) : default;

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V1 operator +(V1 left, V1 right) => new(left.value + right.value);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V1 operator -(V1 left, V1 right) => new(left.value - right.value);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V1 operator -(V1 value) => new(-value.value);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V1 operator *(V1 left, V1 right) => new(left.value * right.value);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V1 operator /(V1 left, V1 right) => new(left.value / right.value);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V1 operator &(V1 left, V1 right) => FromBits(Bits(left) & Bits(right));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V1 operator |(V1 left, V1 right) => FromBits(Bits(left) | Bits(right));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V1 MultiplyAdd(V1 a, V1 b, V1 c) => new(float.MultiplyAddEstimate(a.value, b.value, c.value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V1 NegatedMultiplyAdd(V1 a, V1 b, V1 c) => new(float.MultiplyAddEstimate(-a.value, b.value, c.value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V1 Min(V1 left, V1 right) => left.value < right.value ? left : right;

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V1 Max(V1 left, V1 right) => left.value > right.value ? left : right;

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V1 Abs(V1 value) => new(MathF.Abs(value.value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V1 Sqrt(V1 value) => new(MathF.Sqrt(value.value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V1 Round(V1 value) => new(MathF.Round(value.value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V1 CopySign(V1 magnitude, V1 sign) => new(MathF.CopySign(magnitude.value, sign.value));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V1 LessThan(V1 left, V1 right) => Mask(left.value < right.value);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V1 LessThanOrEqual(V1 left, V1 right) => Mask(left.value <= right.value);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V1 Equal(V1 left, V1 right) => Mask(left.value == right.value);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V1 Select(V1 mask, V1 whenTrue, V1 whenFalse) => Bits(mask) != 0 ? whenTrue : whenFalse;

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V1 ScaleByPowerOfTwo(V1 value, V1 exponent)
    {
        // Two factors, each a normal number, so that results below the normal range are rounded once, by the last product.
        int whole = (int)exponent.value;
        int half = whole >> 1;
        return new(value.value * PowerOfTwo(half) * PowerOfTwo(whole - half));
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V1 SplitExponent(V1 value, out V1 exponent)
    {
        // As in V128: the boundary between exponents is moved to sqrt(1/2).
        bool isSubnormal = value.value < FloatBits.SmallestNormal;
        int shifted = Bits(new V1(isSubnormal ? value.value * 16777216f : value.value)) - FloatBits.SqrtHalf;
        exponent = new((shifted >> FloatBits.MantissaBits) - (isSubnormal ? 24 : 0));
        return FromBits((shifted & FloatBits.MantissaMask) + FloatBits.SqrtHalf);
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void TransposeBlock(float* source, nint sourceStride, int rows, float* destination, nint destinationStride) => *destination = *source;

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Store(float* destination) => *destination = value;

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void StorePartial(float* destination, int count)
    {
        if (count > 0)
        {
            *destination = value;
        }
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public float Sum() => value;

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public float Largest() => value;

    private static int Bits(V1 vector) => BitConverter.SingleToInt32Bits(vector.value);

    private static V1 FromBits(int bits) => new(BitConverter.Int32BitsToSingle(bits));

    private static V1 Mask(bool condition) => FromBits(condition ? -1 : 0);

    private static float PowerOfTwo(int exponent) => BitConverter.Int32BitsToSingle((exponent + FloatBits.ExponentBias) << FloatBits.MantissaBits);
}
