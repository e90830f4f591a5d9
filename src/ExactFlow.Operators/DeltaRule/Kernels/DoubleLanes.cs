using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace ExactFlow.Operators;

/// <summary>Four doubles. The float64 form is for checks, so one width serves all machines; the framework emulates it where it must.</summary>
internal readonly unsafe struct DoubleLanes(Vector256<double> value) : ILanes<DoubleLanes, double>
{
    private readonly Vector256<double> value = value;

    public static int Count => 4;

    public static int TileWidth => 2;

    public static DoubleLanes Zero
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => default;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static DoubleLanes Broadcast(double value) => new(Vector256.Create(value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static DoubleLanes Load(double* source) => new(Vector256.Load(source));

    public static DoubleLanes LoadPartial(double* source, int count)
    {
        double* lanes = stackalloc double[4] { 0, 0, 0, 0 };
        Buffer.MemoryCopy(source, lanes, 4 * sizeof(double), count * sizeof(double));
        return Load(lanes);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static DoubleLanes operator +(DoubleLanes left, DoubleLanes right) => new(left.value + right.value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static DoubleLanes operator -(DoubleLanes left, DoubleLanes right) => new(left.value - right.value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static DoubleLanes operator *(DoubleLanes left, DoubleLanes right) => new(left.value * right.value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static DoubleLanes MultiplyAdd(DoubleLanes a, DoubleLanes b, DoubleLanes c) => new(Vector256.MultiplyAddEstimate(a.value, b.value, c.value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static DoubleLanes Exp(DoubleLanes x) => new(Vector256.Exp(x.value));

    public static void TransposeBlock(double* source, nint sourceStride, int rows, double* destination, nint destinationStride)
    {
        for (int j = 0; j < Count; j++)
        {
            for (int i = 0; i < Count; i++)
            {
                destination[(j * destinationStride) + i] = i < rows ? source[(i * sourceStride) + j] : 0;
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Store(double* destination) => value.Store(destination);

    public void StorePartial(double* destination, int count)
    {
        for (int i = 0; i < count; i++)
        {
            destination[i] = value.GetElement(i);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public double Sum() => Vector256.Sum(value);
}
