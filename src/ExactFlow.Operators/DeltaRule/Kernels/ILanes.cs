using System.Numerics;

namespace ExactFlow.Operators;

/// <summary>A vector register of float or double lanes: what the chunkwise kernels need of it, so that they exist once for both precisions and all widths.</summary>
/// <typeparam name="TSelf">The implementing struct.</typeparam>
/// <typeparam name="T">float or double.</typeparam>
internal unsafe interface ILanes<TSelf, T>
    where TSelf : struct, ILanes<TSelf, T>
    where T : unmanaged, IFloatingPointIeee754<T>
{
    /// <summary>Lanes per register.</summary>
    static abstract int Count { get; }

    /// <summary>Registers of accumulators per row of a tile: 4 where there are 32 registers, 2 where there are 16.</summary>
    static abstract int TileWidth { get; }

    static abstract TSelf Zero { get; }

    static abstract TSelf Broadcast(T value);

    static abstract TSelf Load(T* source);

    /// <summary>The first lanes, zeros in the others.</summary>
    static abstract TSelf LoadPartial(T* source, int count);

    static abstract TSelf operator +(TSelf left, TSelf right);

    static abstract TSelf operator -(TSelf left, TSelf right);

    static abstract TSelf operator *(TSelf left, TSelf right);

    /// <summary>a b + c.</summary>
    static abstract TSelf MultiplyAdd(TSelf a, TSelf b, TSelf c);

    static abstract TSelf Exp(TSelf x);

    /// <summary>Transposes <paramref name="rows"/> (at most <see cref="Count"/>) rows of <see cref="Count"/> columns.</summary>
    static abstract void TransposeBlock(T* source, nint sourceStride, int rows, T* destination, nint destinationStride);

    void Store(T* destination);

    void StorePartial(T* destination, int count);

    /// <summary>The sum of the lanes.</summary>
    T Sum();
}
