namespace ExactFlow.Tensors.Files;

/// <summary>The number formats a safetensors file can hold; members are named as in the file, except for the underscores of the 8-bit floats.</summary>
public enum SafetensorsType : byte
{
    /// <summary>One byte, 0 or 1.</summary>
    BOOL,

    /// <summary>Unsigned, 1 byte.</summary>
    U8,

    /// <summary>Signed, 1 byte.</summary>
    I8,

    /// <summary><c>F8_E5M2</c>: 8-bit float with 5 exponent bits.</summary>
    F8E5M2,

    /// <summary><c>F8_E4M3</c>: 8-bit float with 4 exponent bits.</summary>
    F8E4M3,

    /// <summary><c>F8_E8M0</c>: a power of two, the scale of block formats.</summary>
    F8E8M0,

    /// <summary>Unsigned, 2 bytes.</summary>
    U16,

    /// <summary>Signed, 2 bytes.</summary>
    I16,

    /// <summary>IEEE half precision, 2 bytes.</summary>
    F16,

    /// <summary>The upper half of a float32, 2 bytes.</summary>
    BF16,

    /// <summary>Unsigned, 4 bytes.</summary>
    U32,

    /// <summary>Signed, 4 bytes.</summary>
    I32,

    /// <summary>IEEE single precision, 4 bytes.</summary>
    F32,

    /// <summary>Unsigned, 8 bytes.</summary>
    U64,

    /// <summary>Signed, 8 bytes.</summary>
    I64,

    /// <summary>IEEE double precision, 8 bytes.</summary>
    F64,

    /// <summary>A complex number of two floats, 8 bytes.</summary>
    C64,
}

/// <summary>Facts about <see cref="SafetensorsType"/>.</summary>
public static class SafetensorsTypeExtensions
{
    private static readonly string[] Names =
        ["BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "U16", "I16", "F16", "BF16", "U32", "I32", "F32", "U64", "I64", "F64", "C64"];

    /// <summary>All names, for messages.</summary>
    internal static string Known => string.Join(", ", Names);

    /// <summary>Bytes per element.</summary>
    public static int Size(this SafetensorsType type) => type switch
    {
        <= SafetensorsType.F8E8M0 => 1,
        <= SafetensorsType.BF16 => 2,
        <= SafetensorsType.F32 => 4,
        _ => 8,
    };

    /// <summary>Whether values are floating-point numbers, so that reading them as integers would lose something.</summary>
    public static bool IsFloat(this SafetensorsType type)
        => type is SafetensorsType.F16 or SafetensorsType.BF16 or SafetensorsType.F32 or SafetensorsType.F64
            or SafetensorsType.F8E4M3 or SafetensorsType.F8E5M2 or SafetensorsType.F8E8M0;

    /// <summary>The name that stands in files, such as <c>BF16</c> or <c>F8_E4M3</c>.</summary>
    public static string FileName(this SafetensorsType type) => Names[(int)type];

    /// <summary>The type of a name in a file, given as UTF-8; false for an unknown one.</summary>
    internal static bool TryParse(ReadOnlySpan<byte> name, out SafetensorsType type)
    {
        for (int i = 0; i < Names.Length; i++)
        {
            if (System.Text.Ascii.Equals(name, Names[i]))
            {
                type = (SafetensorsType)i;
                return true;
            }
        }

        type = default;
        return false;
    }
}
