namespace ExactFlow.Tensors.Simd;

/// <summary>The layout of an IEEE single: sign, eight bits of exponent plus 127, 23 bits of mantissa.</summary>
internal static class FloatBits
{
    public const int MantissaBits = 23;
    public const int MantissaMask = 0x7FFFFF;
    public const int ExponentBias = 127;

    /// <summary>The bits of the float nearest to sqrt(1/2).</summary>
    public const int SqrtHalf = 0x3F3504F3;

    /// <summary>2^-126.</summary>
    public const float SmallestNormal = 1.17549435e-38f;
}
