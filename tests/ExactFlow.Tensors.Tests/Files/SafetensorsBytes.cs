using System.Buffers.Binary;
using System.Text;

namespace ExactFlow.Tensors.Tests.Files;

/// <summary>Builds safetensors files by hand, right or wrong.</summary>
internal static class SafetensorsBytes
{
    /// <summary>A file of a header text and data, with the right header length unless another is given.</summary>
    public static byte[] Make(string header, int dataBytes = 0, ulong? claimedLength = null) => Make(Encoding.UTF8.GetBytes(header), dataBytes, claimedLength);

    /// <summary>A file of header bytes and data 0, 1, 2, ...</summary>
    public static byte[] Make(byte[] header, int dataBytes = 0, ulong? claimedLength = null)
    {
        var file = new byte[8 + header.Length + dataBytes];
        BinaryPrimitives.WriteUInt64LittleEndian(file, claimedLength ?? (ulong)header.Length);
        header.CopyTo(file, 8);
        for (int i = 0; i < dataBytes; i++)
        {
            file[8 + header.Length + i] = (byte)i;
        }

        return file;
    }
}
