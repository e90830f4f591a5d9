using System.Buffers.Binary;
using System.IO.Compression;
using ExactFlow.Tensors.Randomness;

namespace ExactFlow.Testing;

/// <summary>Small sets of made-up digits in MNIST's files: each class lights rows of its own, so that there is something to learn.</summary>
public static class IdxSamples
{
    private const int Side = 28, Pixels = Side * Side, Classes = 10;

    /// <summary>Writes all four files, training ones plain and test ones compressed.</summary>
    public static void Write(TemporaryFolder folder, int training, int test)
    {
        System.IO.File.WriteAllBytes(folder["train-images-idx3-ubyte"], Images(training, 1));
        System.IO.File.WriteAllBytes(folder["train-labels-idx1-ubyte"], Labels(training, 1));
        System.IO.File.WriteAllBytes(folder["t10k-images-idx3-ubyte.gz"], Compress(Images(test, 2)));
        System.IO.File.WriteAllBytes(folder["t10k-labels-idx1-ubyte.gz"], Compress(Labels(test, 2)));
    }

    /// <summary>A file of images, uncompressed.</summary>
    public static byte[] Images(int count, ulong seed)
    {
        var random = new Philox(seed, 0);
        byte[] digits = Digits(count, seed);
        var pixels = new byte[count * Pixels];
        for (int i = 0; i < pixels.Length; i++)
        {
            int row = i % Pixels / Side;
            pixels[i] = (byte)(row / 3 == digits[i / Pixels] ? 200 + random.Below((ulong)i, 56) : random.Below((ulong)i, 20));
        }

        return File([0, 0, 8, 3], [count, Side, Side], pixels);
    }

    /// <summary>The file of their labels, uncompressed.</summary>
    public static byte[] Labels(int count, ulong seed) => File([0, 0, 8, 1], [count], Digits(count, seed));

    /// <summary>A file of these parts.</summary>
    public static byte[] File(byte[] magic, int[] sizes, byte[] contents)
    {
        var header = new byte[4 * sizes.Length];
        for (int i = 0; i < sizes.Length; i++)
        {
            BinaryPrimitives.WriteInt32BigEndian(header.AsSpan(4 * i), sizes[i]);
        }

        return [.. magic, .. header, .. contents];
    }

    /// <summary>As gzip.</summary>
    public static byte[] Compress(byte[] contents)
    {
        var to = new MemoryStream();
        using (var gzip = new GZipStream(to, CompressionLevel.Fastest))
        {
            gzip.Write(contents);
        }

        return to.ToArray();
    }

    private static byte[] Digits(int count, ulong seed)
    {
        var random = new Philox(seed, 1);
        return [.. Enumerable.Range(0, count).Select(i => (byte)random.Below((ulong)i, Classes))];
    }
}
