using System.Runtime.CompilerServices;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Operators;

/// <summary>The float32 registers of the SIMD ladder as <see cref="ILanes{TSelf, T}"/>.</summary>
internal readonly unsafe struct FloatLanes<TV>(TV value) : ILanes<FloatLanes<TV>, float>
    where TV : struct, IFloatVector<TV>
{
    private readonly TV value = value;

    public static int Count => TV.Count;

    public static int TileWidth => TV.Count == V512.Count ? 4 : 2;

    public static FloatLanes<TV> Zero
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => new(TV.Zero);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static FloatLanes<TV> Broadcast(float value) => new(TV.Broadcast(value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static FloatLanes<TV> Load(float* source) => new(TV.Load(source));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static FloatLanes<TV> LoadPartial(float* source, int count) => new(TV.LoadPartial(source, count));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static FloatLanes<TV> operator +(FloatLanes<TV> left, FloatLanes<TV> right) => new(left.value + right.value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static FloatLanes<TV> operator -(FloatLanes<TV> left, FloatLanes<TV> right) => new(left.value - right.value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static FloatLanes<TV> operator *(FloatLanes<TV> left, FloatLanes<TV> right) => new(left.value * right.value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static FloatLanes<TV> MultiplyAdd(FloatLanes<TV> a, FloatLanes<TV> b, FloatLanes<TV> c) => new(TV.MultiplyAdd(a.value, b.value, c.value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static FloatLanes<TV> Exp(FloatLanes<TV> x) => new(SimdMath.Exp(x.value));

    public static void TransposeBlock(float* source, nint sourceStride, int rows, float* destination, nint destinationStride)
        => TV.TransposeBlock(source, sourceStride, rows, destination, destinationStride);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Store(float* destination) => value.Store(destination);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void StorePartial(float* destination, int count) => value.StorePartial(destination, count);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public float Sum() => value.Sum();
}
