using System.Numerics;
using System.Runtime.InteropServices;

namespace ExactFlow.Tensors.Files;

/// <summary>Conversions from the number formats of a safetensors file.</summary>
internal static class SafetensorsConversion
{
    /// <summary>Whether the file's bytes are <typeparamref name="T"/> values as they are.</summary>
    public static bool IsStoredAs<T>(SafetensorsType type) => type switch
    {
        SafetensorsType.F32 => typeof(T) == typeof(float),
        SafetensorsType.F64 => typeof(T) == typeof(double),
        SafetensorsType.I32 => typeof(T) == typeof(int),
        SafetensorsType.I64 => typeof(T) == typeof(long),
        SafetensorsType.F16 => typeof(T) == typeof(Half),
        SafetensorsType.BF16 => typeof(T) == typeof(ushort),
        SafetensorsType.U16 => typeof(T) == typeof(ushort),
        SafetensorsType.I16 => typeof(T) == typeof(short),
        SafetensorsType.U32 => typeof(T) == typeof(uint),
        SafetensorsType.U64 => typeof(T) == typeof(ulong),
        SafetensorsType.I8 => typeof(T) == typeof(sbyte),
        SafetensorsType.BOOL => typeof(T) == typeof(bool) || typeof(T) == typeof(byte),
        _ => typeof(T) == typeof(byte),
    };

    /// <summary>Converts as many values as <paramref name="destination"/> holds.</summary>
    /// <exception cref="InvalidInputException">No such conversion, or an integer that does not fit.</exception>
    public static void Convert<T>(ReadOnlySpan<byte> source, Span<T> destination, SafetensorsEntry entry, string file)
        where T : unmanaged, INumber<T>
    {
        bool toFloat = typeof(T) == typeof(float) || typeof(T) == typeof(double);
        bool toInteger = typeof(T) == typeof(int) || typeof(T) == typeof(long);
        bool fromEightBitFloat = entry.Type is SafetensorsType.F8E4M3 or SafetensorsType.F8E5M2 or SafetensorsType.F8E8M0 or SafetensorsType.C64;
        if (fromEightBitFloat || !(toFloat || (toInteger && !entry.Type.IsFloat())))
        {
            throw new InvalidInputException(
                $"Cannot read tensor '{entry.Name}' of '{file}' as {typeof(T).Name}: it holds {entry.Type.FileName()}, which has no such conversion; save it as {(toInteger ? "I32 or I64" : "F32")}.");
        }

        try
        {
            ConvertKnown(source, destination, entry.Type);
        }
        catch (OverflowException exception)
        {
            throw new InvalidInputException(
                $"Cannot read tensor '{entry.Name}' of '{file}' as {typeof(T).Name}: a value of its {entry.Type.FileName()} elements does not fit; read it as a wider type.", exception);
        }
    }

    private static void ConvertKnown<T>(ReadOnlySpan<byte> source, Span<T> destination, SafetensorsType type)
        where T : unmanaged, INumber<T>
    {
        switch (type)
        {
            case SafetensorsType.F64: Elements<double, T>(source, destination); break;
            case SafetensorsType.F32: Elements<float, T>(source, destination); break;
            case SafetensorsType.F16: Elements<Half, T>(source, destination); break;
            case SafetensorsType.BF16: FromBFloat16(source, destination); break;
            case SafetensorsType.I64: Elements<long, T>(source, destination); break;
            case SafetensorsType.U64: Elements<ulong, T>(source, destination); break;
            case SafetensorsType.I32: Elements<int, T>(source, destination); break;
            case SafetensorsType.U32: Elements<uint, T>(source, destination); break;
            case SafetensorsType.I16: Elements<short, T>(source, destination); break;
            case SafetensorsType.U16: Elements<ushort, T>(source, destination); break;
            case SafetensorsType.I8: Elements<sbyte, T>(source, destination); break;
            default: Elements<byte, T>(source, destination); break;
        }
    }

    private static void Elements<TSource, T>(ReadOnlySpan<byte> source, Span<T> destination)
        where TSource : unmanaged, INumber<TSource>
        where T : unmanaged, INumber<T>
    {
        ReadOnlySpan<TSource> values = MemoryMarshal.Cast<byte, TSource>(source);
        for (int i = 0; i < destination.Length; i++)
        {
            destination[i] = T.CreateChecked(values[i]);
        }
    }

    private static void FromBFloat16<T>(ReadOnlySpan<byte> source, Span<T> destination)
        where T : unmanaged, INumber<T>
    {
        ReadOnlySpan<ushort> values = MemoryMarshal.Cast<byte, ushort>(source);
        if (typeof(T) == typeof(float))
        {
            ToSingleBits(values, MemoryMarshal.Cast<T, uint>(destination));
            return;
        }

        for (int i = 0; i < destination.Length; i++)
        {
            destination[i] = T.CreateChecked(BitConverter.UInt32BitsToSingle((uint)values[i] << 16));
        }
    }

    /// <summary>The bits of a bfloat16 are the upper half of a float32's: what most model folders take to load.</summary>
    private static void ToSingleBits(ReadOnlySpan<ushort> source, Span<uint> destination)
    {
        int i = 0;
        for (; i + Vector<ushort>.Count <= destination.Length; i += Vector<ushort>.Count)
        {
            Vector.Widen(new Vector<ushort>(source[i..]), out Vector<uint> low, out Vector<uint> high);
            (low << 16).CopyTo(destination[i..]);
            (high << 16).CopyTo(destination[(i + Vector<uint>.Count)..]);
        }

        for (; i < destination.Length; i++)
        {
            destination[i] = (uint)source[i] << 16;
        }
    }
}
