using System.IO.Compression;

namespace ExactFlow.Training.Data;

/// <summary>What a general-purpose compressor makes of a text, the yardstick beside a model's bits per byte.</summary>
public static class BrotliBaseline
{
    /// <summary>Best quality.</summary>
    public const int Quality = 11;

    /// <summary>Largest window of the standard format, 2^24 bytes.</summary>
    public const int Window = 24;

    /// <summary>Bits per byte of a text compressed on its own by Brotli at its best; 0 for an empty text. About a megabyte a second.</summary>
    public static double BitsPerByte(ReadOnlySpan<byte> text)
    {
        if (text.IsEmpty)
        {
            return 0;
        }

        var compressed = new byte[BrotliEncoder.GetMaxCompressedLength(text.Length)];
        return BrotliEncoder.TryCompress(text, compressed, out int length, Quality, Window)
            ? 8.0 * length / text.Length
            : throw new InvalidOperationException($"Brotli did not fit {text.Length} bytes into its own upper bound of {compressed.Length}.");
    }
}
