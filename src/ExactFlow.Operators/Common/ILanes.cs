using System.Runtime.CompilerServices;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Operators;

/// <summary>
/// How much of a vector one step of a kernel touches. The step is written once, generic over this, and compiled twice: for whole vectors in the loop,
/// and for the lanes left over behind it. Loops stay free of tests that way, and short enough for the JIT to inline everything in them.
/// </summary>
internal unsafe interface ILanes
{
    /// <summary>Reads a whole vector, or the first <paramref name="count"/> lanes and zeros in the others.</summary>
    static abstract TV Load<TV>(float* source, int count)
        where TV : struct, IFloatVector<TV>;

    /// <summary>Writes a whole vector, or the first <paramref name="count"/> lanes.</summary>
    static abstract void Store<TV>(TV value, float* destination, int count)
        where TV : struct, IFloatVector<TV>;
}

/// <summary>All lanes; the count is not looked at.</summary>
internal readonly unsafe struct WholeVector : ILanes
{
    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TV Load<TV>(float* source, int count)
        where TV : struct, IFloatVector<TV>
        => TV.Load(source);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store<TV>(TV value, float* destination, int count)
        where TV : struct, IFloatVector<TV>
        => value.Store(destination);
}

/// <summary>The first lanes, 1 up to all but one.</summary>
internal readonly unsafe struct FirstLanes : ILanes
{
    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TV Load<TV>(float* source, int count)
        where TV : struct, IFloatVector<TV>
        => TV.LoadPartial(source, count);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store<TV>(TV value, float* destination, int count)
        where TV : struct, IFloatVector<TV>
        => value.StorePartial(destination, count);
}
