using System.Security.Cryptography;
using ExactFlow.Tensors;

namespace ExactFlow.Training.Experiments.SequentialMnist;

/// <summary>Images of handwritten digits with their labels (LeCun, Cortes and Burges' MNIST).</summary>
public sealed class MnistSet
{
    /// <summary>Rows and columns of an image.</summary>
    public const int Side = 28;

    /// <summary>Pixels of an image: tokens of a sequence.</summary>
    public const int Pixels = Side * Side;

    /// <summary>Digits.</summary>
    public const int Classes = 10;

    private MnistSet(byte[] images, byte[] labels) => (Images, Labels) = (images, labels);

    /// <summary>Grey values, <c>[Count, 28, 28]</c>.</summary>
    public byte[] Images { get; }

    /// <summary>The digits, <c>[Count]</c>.</summary>
    public byte[] Labels { get; }

    /// <summary>How many there are.</summary>
    public int Count => Labels.Length;

    /// <summary>Reads the training set: <c>train-images-idx3-ubyte</c> and <c>train-labels-idx1-ubyte</c>, each plain or <c>.gz</c>.</summary>
    /// <param name="folder">The folder.</param>
    /// <param name="limit">Only the first so many, or 0 for all.</param>
    /// <exception cref="InvalidInputException">A file is missing or damaged, or the two do not belong together.</exception>
    public static MnistSet ReadTraining(string folder, int limit = 0) => Read(folder, "train", limit);

    /// <summary>Reads the test set: <c>t10k-images-idx3-ubyte</c> and <c>t10k-labels-idx1-ubyte</c>, each plain or <c>.gz</c>.</summary>
    /// <inheritdoc cref="ReadTraining"/>
    public static MnistSet ReadTest(string folder, int limit = 0) => Read(folder, "t10k", limit);

    /// <summary>SHA-256 of images and labels, in hexadecimal.</summary>
    public string Hash()
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(Images);
        hash.AppendData(Labels);
        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    private static MnistSet Read(string folder, string part, int limit)
    {
        string images = Find(folder, $"{part}-images-idx3-ubyte"), labels = Find(folder, $"{part}-labels-idx1-ubyte");
        byte[] pixels = IdxFile.ReadImages(images, Side), digits = IdxFile.ReadLabels(labels, Classes);
        if (pixels.Length / Pixels != digits.Length)
        {
            throw new InvalidInputException($"'{images}' holds {pixels.Length / Pixels} images but '{labels}' {digits.Length} labels: the two belong to different sets; fetch them again.");
        }

        if (limit > digits.Length)
        {
            throw new InvalidInputException($"{limit} images were asked for, but '{images}' holds {digits.Length}: ask for fewer.");
        }

        return limit == 0 ? new MnistSet(pixels, digits) : new MnistSet(pixels[..(limit * Pixels)], digits[..limit]);
    }

    private static string Find(string folder, string name)
    {
        if (!Directory.Exists(folder))
        {
            throw new InvalidInputException($"There is no folder '{folder}', where the files of MNIST are expected: get them with 'exactflow data get mnist --out {folder}'.");
        }

        string plain = Path.Combine(folder, name);
        return File.Exists(plain) ? plain
            : File.Exists(plain + ".gz") ? plain + ".gz"
            : throw new InvalidInputException($"The folder '{folder}' lacks the MNIST file {name} (plain or .gz): get it with 'exactflow data get mnist --out {folder}'.");
    }
}
