namespace ExactFlow.Tensors;

/// <summary>The number formats a tensor can hold.</summary>
public enum DType : byte
{
    /// <summary>IEEE single precision, 4 bytes: everything on the CPU, parameters and optimizer state everywhere.</summary>
    Float32,

    /// <summary>The upper half of a float32, 2 bytes: working copies and activations on a GPU.</summary>
    BFloat16,

    /// <summary>IEEE double precision, 8 bytes: references and checks.</summary>
    Float64,

    /// <summary>32-bit signed integers: token ids and offsets.</summary>
    Int32,
}

/// <summary>Facts about <see cref="DType"/>.</summary>
public static class DTypeExtensions
{
    /// <summary>Bytes per element.</summary>
    public static int Size(this DType type) => type switch
    {
        DType.BFloat16 => 2,
        DType.Float64 => 8,
        _ => 4,
    };

    /// <summary>The dtype whose elements are stored as <typeparamref name="T"/>: float, double, int, or ushort for bfloat16.</summary>
    /// <exception cref="NotSupportedException">No dtype is stored as that type.</exception>
    public static DType Of<T>()
        where T : unmanaged
    {
        if (typeof(T) == typeof(float))
        {
            return DType.Float32;
        }

        if (typeof(T) == typeof(double))
        {
            return DType.Float64;
        }

        if (typeof(T) == typeof(int))
        {
            return DType.Int32;
        }

        return typeof(T) == typeof(ushort)
            ? DType.BFloat16
            : throw new NotSupportedException($"No tensor dtype stores {typeof(T).Name}; use float, double, int or ushort (bfloat16 bits).");
    }
}
