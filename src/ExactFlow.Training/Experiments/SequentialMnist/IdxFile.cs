using System.Buffers.Binary;
using ExactFlow.Tensors;
using ExactFlow.Training.Data;

namespace ExactFlow.Training.Experiments.SequentialMnist;

/// <summary>
/// A file in the IDX format of the MNIST distribution: two zero bytes, the element type (8 for bytes), the number of dimensions, their sizes as big-endian
/// 32-bit numbers, then the elements. Read plain, or as gzip whatever its name; every size is checked against the file before anything is allocated.
/// </summary>
internal static class IdxFile
{
    private const int ImagesMagic = 0x803, LabelsMagic = 0x801;

    /// <summary>No MNIST-like set is larger; a header that says otherwise is damaged.</summary>
    private const int MostItems = 10_000_000;

    /// <summary>Reads images.</summary>
    /// <param name="path">The file.</param>
    /// <param name="side">Rows and columns that every image must have.</param>
    /// <returns>The pixels, <c>[images, side, side]</c>.</returns>
    /// <exception cref="InvalidInputException">The file is missing, damaged, cut off, of other contents or of another size.</exception>
    public static byte[] ReadImages(string path, int side)
    {
        using Stream stream = Open(path);
        int[] sizes = ReadHeader(stream, path, ImagesMagic, "images", 3);
        return sizes[1] == side && sizes[2] == side
            ? ReadItems(stream, path, sizes[0], side * side, "images")
            : throw new InvalidInputException($"The images in '{path}' are {sizes[1]} x {sizes[2]} pixels, but {side} x {side} are expected: use the files of MNIST.");
    }

    /// <summary>Reads labels.</summary>
    /// <param name="path">The file.</param>
    /// <param name="classes">Every label must be below this.</param>
    /// <exception cref="InvalidInputException">The file is missing, damaged, cut off, of other contents, or holds a label out of range.</exception>
    public static byte[] ReadLabels(string path, int classes)
    {
        using Stream stream = Open(path);
        int[] sizes = ReadHeader(stream, path, LabelsMagic, "labels", 1);
        byte[] labels = ReadItems(stream, path, sizes[0], 1, "labels");
        int wrong = Array.FindIndex(labels, label => label >= classes);
        return wrong < 0
            ? labels
            : throw new InvalidInputException($"Label {wrong} in '{path}' is {labels[wrong]}, but labels are 0 to {classes - 1}: the file is damaged or of another data set; fetch it again.");
    }

    private static Stream Open(string path)
    {
        try
        {
            var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, 1 << 16);
            int first = file.ReadByte(), second = file.ReadByte();
            file.Position = 0;
            return first == 0x1F && second == 0x8B ? Gzip.Decompress(file) : file;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new InvalidInputException($"The MNIST file '{path}' cannot be read: {exception.Message.TrimEnd('.')}; get the files with 'exactflow data get mnist --out DIR'.", exception);
        }
    }

    private static int[] ReadHeader(Stream stream, string path, int expectedMagic, string contents, int dimensions)
    {
        Span<byte> header = stackalloc byte[4 * (1 + 3)];
        header = header[..(4 * (1 + dimensions))];
        if (ReadUpTo(stream, header[..4], path) < 4)
        {
            throw new InvalidInputException($"The MNIST file '{path}' ends within its first four bytes: fetch it again.");
        }

        int magic = BinaryPrimitives.ReadInt32BigEndian(header);
        if (magic != expectedMagic)
        {
            string found = magic == ImagesMagic ? "the file holds images" : magic == LabelsMagic ? "the file holds labels" : "it is no such IDX file";
            string remedy = magic is ImagesMagic or LabelsMagic ? "the files of images and labels are swapped or misnamed; restore their names" : "fetch it again";
            throw new InvalidInputException($"The MNIST file '{path}' should hold {contents} and begin with 0x{expectedMagic:X8}, but it begins with 0x{magic:X8} ({found}): {remedy}.");
        }

        if (ReadUpTo(stream, header[4..], path) < 4 * dimensions)
        {
            throw new InvalidInputException($"The MNIST file '{path}' ends within its header: fetch it again.");
        }

        var sizes = new int[dimensions];
        for (int i = 0; i < dimensions; i++)
        {
            sizes[i] = BinaryPrimitives.ReadInt32BigEndian(header[(4 * (1 + i))..]);
        }

        return sizes[0] is >= 1 and <= MostItems
            ? sizes
            : throw new InvalidInputException($"The MNIST file '{path}' announces {sizes[0]} {contents}, but 1 to {MostItems} are expected: the file is damaged; fetch it again.");
    }

    private static byte[] ReadItems(Stream stream, string path, int count, int size, string contents)
    {
        // The announced size is believed a piece at a time, so that a damaged header cannot ask for memory that the file does not fill.
        const int Piece = 1 << 20;
        long wanted = (long)count * size;
        var pieces = new MemoryStream();
        var buffer = new byte[Piece];
        while (pieces.Length < wanted)
        {
            int read = ReadUpTo(stream, buffer.AsSpan(0, (int)Math.Min(Piece, wanted - pieces.Length)), path);
            if (read == 0)
            {
                throw new InvalidInputException($"The MNIST file '{path}' announces {count} {contents} but ends after {pieces.Length / size}: it was cut off; fetch it again.");
            }

            pieces.Write(buffer, 0, read);
        }

        return ReadUpTo(stream, buffer.AsSpan(0, 1), path) == 0
            ? pieces.ToArray()
            : throw new InvalidInputException($"The MNIST file '{path}' goes on after the {count} {contents} that it announces: the file is damaged; fetch it again.");
    }

    private static int ReadUpTo(Stream stream, Span<byte> buffer, string path)
    {
        try
        {
            return stream.ReadAtLeast(buffer, buffer.Length, throwOnEndOfStream: false);
        }
        catch (Exception exception) when (exception is InvalidDataException or IOException)
        {
            throw new InvalidInputException($"The MNIST file '{path}' cannot be read: {exception.Message.TrimEnd('.')}; it is damaged or cut off, fetch it again.", exception);
        }
    }
}
