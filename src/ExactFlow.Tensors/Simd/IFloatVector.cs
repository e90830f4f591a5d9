namespace ExactFlow.Tensors.Simd;

/// <summary>
/// A register of float32 lanes. A kernel is written once as <c>static void Kernel&lt;TV&gt;(...) where TV : struct, IFloatVector&lt;TV&gt;</c>
/// and compiled for every width; <see cref="Simd.Run{TAction}"/> picks the width of the machine.
/// </summary>
/// <remarks>
/// Masks are vectors whose lanes are all ones (true) or all zeros (false), as comparisons make them. No operation here throws on any value.
/// <typeparamref name="TSelf"/> has <see cref="Count"/> lanes; remainders of a loop use <see cref="LoadPartial"/> and <see cref="StorePartial"/>,
/// which touch no memory beyond the lanes asked for.
/// </remarks>
/// <typeparam name="TSelf">The implementing struct.</typeparam>
public unsafe interface IFloatVector<TSelf>
    where TSelf : struct, IFloatVector<TSelf>
{
    /// <summary>Number of lanes: 16, 8, 4 or 1.</summary>
    static abstract int Count { get; }

    /// <summary>All lanes zero.</summary>
    static abstract TSelf Zero { get; }

    /// <summary>All lanes equal to <paramref name="value"/>.</summary>
    static abstract TSelf Broadcast(float value);

    /// <summary>Reads <see cref="Count"/> floats; no alignment needed.</summary>
    static abstract TSelf Load(float* source);

    /// <summary>Reads the first <paramref name="count"/> lanes (0 to <see cref="Count"/>), zeros in the others.</summary>
    static abstract TSelf LoadPartial(float* source, int count);

    /// <summary>Lane by lane sum.</summary>
    static abstract TSelf operator +(TSelf left, TSelf right);

    /// <summary>Lane by lane difference.</summary>
    static abstract TSelf operator -(TSelf left, TSelf right);

    /// <summary>Sign flipped.</summary>
    static abstract TSelf operator -(TSelf value);

    /// <summary>Lane by lane product.</summary>
    static abstract TSelf operator *(TSelf left, TSelf right);

    /// <summary>Lane by lane quotient.</summary>
    static abstract TSelf operator /(TSelf left, TSelf right);

    /// <summary>Bits of both: a mask keeps or clears lanes.</summary>
    static abstract TSelf operator &(TSelf left, TSelf right);

    /// <summary>Bits of either.</summary>
    static abstract TSelf operator |(TSelf left, TSelf right);

    /// <summary><c>a * b + c</c>, rounded once where the hardware has a fused operation (all of <see cref="V512"/> and <see cref="V256"/>), else twice.</summary>
    static abstract TSelf MultiplyAdd(TSelf a, TSelf b, TSelf c);

    /// <summary><c>c - a * b</c>, rounded like <see cref="MultiplyAdd"/>.</summary>
    static abstract TSelf NegatedMultiplyAdd(TSelf a, TSelf b, TSelf c);

    /// <summary>The smaller of each pair. A NaN in <paramref name="right"/> comes through; one in <paramref name="left"/> may not.</summary>
    static abstract TSelf Min(TSelf left, TSelf right);

    /// <summary>The larger of each pair. A NaN in <paramref name="right"/> comes through; one in <paramref name="left"/> may not.</summary>
    static abstract TSelf Max(TSelf left, TSelf right);

    /// <summary>Sign cleared.</summary>
    static abstract TSelf Abs(TSelf value);

    /// <summary>Correctly rounded square root.</summary>
    static abstract TSelf Sqrt(TSelf value);

    /// <summary>The nearest integer, ties to even.</summary>
    static abstract TSelf Round(TSelf value);

    /// <summary>The magnitude of one with the sign of the other.</summary>
    static abstract TSelf CopySign(TSelf magnitude, TSelf sign);

    /// <summary>Mask of lanes where left &lt; right (false for NaN).</summary>
    static abstract TSelf LessThan(TSelf left, TSelf right);

    /// <summary>Mask of lanes where left &lt;= right (false for NaN).</summary>
    static abstract TSelf LessThanOrEqual(TSelf left, TSelf right);

    /// <summary>Mask of lanes where left == right (false for NaN).</summary>
    static abstract TSelf Equal(TSelf left, TSelf right);

    /// <summary>Lanes of <paramref name="whenTrue"/> where the mask is set, of <paramref name="whenFalse"/> elsewhere.</summary>
    static abstract TSelf Select(TSelf mask, TSelf whenTrue, TSelf whenFalse);

    /// <summary><c>value * 2^exponent</c> for integer-valued exponents in [-252, 252]; overflows to infinity, underflows gradually.</summary>
    static abstract TSelf ScaleByPowerOfTwo(TSelf value, TSelf exponent);

    /// <summary>
    /// Splits positive finite numbers (subnormal ones too): <c>value = mantissa * 2^exponent</c> with the mantissa in [sqrt(1/2), sqrt(2)).
    /// Other values give something unspecified.
    /// </summary>
    static abstract TSelf SplitExponent(TSelf value, out TSelf exponent);

    /// <summary>
    /// Transposes <paramref name="rows"/> rows (1 to <see cref="Count"/>) of <see cref="Count"/> columns: column j becomes the vector at
    /// <c>destination + j * destinationStride</c>, with zeros in its lanes from <paramref name="rows"/> on. The vectors are written in ascending order,
    /// so a stride of <paramref name="rows"/> packs them densely and lets each overwrite the zeros of the one before.
    /// </summary>
    static abstract void TransposeBlock(float* source, nint sourceStride, int rows, float* destination, nint destinationStride);

    /// <summary>Writes <see cref="Count"/> floats; no alignment needed.</summary>
    void Store(float* destination);

    /// <summary>Writes the first <paramref name="count"/> lanes (0 to <see cref="Count"/>).</summary>
    void StorePartial(float* destination, int count);

    /// <summary>The sum of the lanes: halves added to each other until one is left, the same order every time.</summary>
    float Sum();

    /// <summary>The largest lane; NaN lanes may or may not come through.</summary>
    float Largest();
}
