using System.IO.Compression;
using System.Text;
using ExactFlow.Tensors.Randomness;
using ExactFlow.Training.Data;

namespace ExactFlow.Training.Tests.Data;

public class BrotliBaselineTests
{
    [Fact]
    public void BitsPerByteAreThoseOfAStreamThatDecompresses()
    {
        byte[] text = Encoding.UTF8.GetBytes(string.Concat(Enumerable.Range(0, 2000).Select(i => $"Line {i * 7919 % 1009} of the text.\n")));
        var compressed = new byte[text.Length];
        Assert.True(BrotliEncoder.TryCompress(text, compressed, out int length, 11, 24));
        using BrotliStream stream = new(new MemoryStream(compressed, 0, length), CompressionMode.Decompress);
        using MemoryStream decompressed = new();
        stream.CopyTo(decompressed);
        Assert.Equal(text, decompressed.ToArray());
        Assert.Equal(8.0 * length / text.Length, BrotliBaseline.BitsPerByte(text));
    }

    [Fact]
    public void RandomBytesTakeEightBitsAndNothingTakesNone()
    {
        Philox random = new(1, 1);
        byte[] noise = [.. Enumerable.Range(0, 10_000).Select(i => (byte)random.Below((ulong)i, 256))];
        Assert.InRange(BrotliBaseline.BitsPerByte(noise), 8.0, 8.01);
        Assert.Equal(0, BrotliBaseline.BitsPerByte([]));
    }
}
