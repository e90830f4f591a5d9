using System.Buffers.Binary;
using ExactFlow.Tensors;

namespace ExactFlow.Training.Packing;

/// <summary>
/// The first <see cref="Size"/> bytes of a shard of tokens, little-endian. Behind them lie the tokens (2 or 4 bytes each, documents one after another), padding with zeros to a
/// multiple of 8 bytes, then for n documents n + 1 offsets (64 bits: the first token of each, and the number of tokens) and n keys (64 bits: the beginning of the SHA-256 of
/// each document's text), and nothing more.
/// </summary>
/// <param name="BytesPerToken">2 where the vocabulary has at most 65,536 tokens, otherwise 4.</param>
/// <param name="VocabularySize">Every token is below it.</param>
/// <param name="DocumentToken">The token that every document begins with.</param>
/// <param name="Documents">Number of documents, at least 1.</param>
/// <param name="Tokens">Number of tokens of all documents, their first ones included.</param>
/// <param name="TextBytes">UTF-8 bytes that were encoded.</param>
/// <param name="TokenizerHash">SHA-256 of the tokenizer's file, in lower-case hexadecimal digits.</param>
/// <param name="Checksum">SHA-256 of everything behind the header and then of the header up to its own checksum, in lower-case hexadecimal digits.</param>
public sealed record ShardHeader(int BytesPerToken, int VocabularySize, int DocumentToken, long Documents, long Tokens, long TextBytes, string TokenizerHash, string Checksum)
{
    /// <summary>Bytes of the header.</summary>
    public const int Size = 128;

    /// <summary>Bytes of the header that the checksum covers: all before itself.</summary>
    internal const int CheckedSize = 96;

    private const int Version = 1;
    private const int HashBytes = 32;

    private static ReadOnlySpan<byte> Magic => "EXFTOKEN"u8;

    /// <summary>Where the offsets begin.</summary>
    internal long OffsetsStart => Size + Padded(Tokens * BytesPerToken);

    /// <summary>Bytes of the whole file.</summary>
    internal long FileLength => OffsetsStart + ((Documents + 1) * sizeof(long)) + (Documents * sizeof(ulong));

    /// <summary>The next multiple of 8.</summary>
    internal static long Padded(long bytes) => (bytes + 7) & ~7L;

    /// <summary>Reads and checks a header against the length of its file, before anything is allocated by what it says.</summary>
    /// <param name="bytes">The first <see cref="Size"/> bytes of the file, or all there are.</param>
    /// <param name="fileLength">Bytes of the file.</param>
    /// <param name="path">The file, for messages.</param>
    /// <exception cref="InvalidInputException">It is no shard, of another version, damaged or cut off.</exception>
    internal static ShardHeader Parse(ReadOnlySpan<byte> bytes, long fileLength, string path)
    {
        if (bytes.Length < Size || !bytes.StartsWith(Magic))
        {
            throw Damaged(path, $"it must begin with a header of {Size} bytes that names the format, but {(bytes.Length < Size ? $"it has {bytes.Length} bytes" : "other bytes stand there")}");
        }

        int version = BinaryPrimitives.ReadInt32LittleEndian(bytes[8..]);
        if (version != Version)
        {
            throw new InvalidInputException($"Cannot read shard '{path}': version {Version} of the format is expected, but it is of version {version}; pack the text again.");
        }

        ShardHeader header = new(
            BinaryPrimitives.ReadInt32LittleEndian(bytes[12..]),
            BinaryPrimitives.ReadInt32LittleEndian(bytes[16..]),
            BinaryPrimitives.ReadInt32LittleEndian(bytes[20..]),
            BinaryPrimitives.ReadInt64LittleEndian(bytes[24..]),
            BinaryPrimitives.ReadInt64LittleEndian(bytes[32..]),
            BinaryPrimitives.ReadInt64LittleEndian(bytes[40..]),
            Convert.ToHexStringLower(bytes[64..CheckedSize]),
            Convert.ToHexStringLower(bytes[CheckedSize..Size]));
        header.Check(fileLength, path);
        return bytes[48..64].ContainsAnyExcept((byte)0) ? throw Damaged(path, "bytes 48 to 63 of its header must be zero, but are not") : header;
    }

    /// <summary>Writes the header.</summary>
    /// <param name="bytes"><see cref="Size"/> bytes.</param>
    internal void Write(Span<byte> bytes)
    {
        bytes.Clear();
        Magic.CopyTo(bytes);
        BinaryPrimitives.WriteInt32LittleEndian(bytes[8..], Version);
        BinaryPrimitives.WriteInt32LittleEndian(bytes[12..], BytesPerToken);
        BinaryPrimitives.WriteInt32LittleEndian(bytes[16..], VocabularySize);
        BinaryPrimitives.WriteInt32LittleEndian(bytes[20..], DocumentToken);
        BinaryPrimitives.WriteInt64LittleEndian(bytes[24..], Documents);
        BinaryPrimitives.WriteInt64LittleEndian(bytes[32..], Tokens);
        BinaryPrimitives.WriteInt64LittleEndian(bytes[40..], TextBytes);
        Convert.FromHexString(TokenizerHash, bytes.Slice(CheckedSize - HashBytes, HashBytes), out _, out _);
        Convert.FromHexString(Checksum, bytes.Slice(CheckedSize, HashBytes), out _, out _);
    }

    /// <summary>The one sentence for a shard that cannot be used.</summary>
    internal static InvalidInputException Damaged(string path, string what)
        => new($"Cannot read shard '{path}': {what}; it is damaged or cut off: copy it again or pack the text again.");

    private void Check(long fileLength, string path)
    {
        if (BytesPerToken is not (2 or 4) || VocabularySize < 1 || (BytesPerToken == 2 && VocabularySize > 1 << 16) || DocumentToken < 0 || DocumentToken >= VocabularySize)
        {
            throw Damaged(path, $"its header says {BytesPerToken} bytes a token, a vocabulary of {VocabularySize} and documents that begin with token {DocumentToken}, which do not go together");
        }

        // Neither sum nor product can overflow: both counts are below the file's length.
        if (Documents < 1 || Tokens < Documents || TextBytes < 0 || Documents > fileLength / 16 || Tokens > fileLength / BytesPerToken || FileLength != fileLength)
        {
            throw Damaged(path, $"its header says {Documents} documents of {Tokens} tokens, which does not go with a file of {fileLength} bytes");
        }
    }
}
