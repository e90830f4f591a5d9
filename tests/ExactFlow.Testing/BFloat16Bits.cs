namespace ExactFlow.Testing;

/// <summary>Numbers of bfloat16 as bits: rounding to nearest even, written here independently of what is tested.</summary>
public static class BFloat16Bits
{
    /// <summary>The nearest bfloat16; ties to even, NaN stays NaN.</summary>
    public static ushort FromSingle(float value)
    {
        if (float.IsNaN(value))
        {
            return 0x7FFF;
        }

        uint bits = BitConverter.SingleToUInt32Bits(value);
        return (ushort)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
    }

    /// <summary>The number that bits stand for.</summary>
    public static float ToSingle(ushort bits) => BitConverter.UInt32BitsToSingle((uint)bits << 16);

    /// <summary>A number rounded to bfloat16.</summary>
    public static double Round(double value) => ToSingle(FromSingle((float)value));
}
