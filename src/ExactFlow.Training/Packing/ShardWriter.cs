using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using ExactFlow.Tensors.Files;

namespace ExactFlow.Training.Packing;

/// <summary>Writes a shard as documents come. The file appears whole or not at all.</summary>
internal sealed class ShardWriter : IDisposable
{
    private readonly AtomicFile file;
    private readonly PackingTokenizer tokenizer;
    private readonly IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
    private readonly List<long> offsets = [0];
    private readonly List<ulong> keys = [];
    private long textBytes;

    /// <summary>Begins a shard.</summary>
    public ShardWriter(string path, PackingTokenizer tokenizer)
    {
        this.tokenizer = tokenizer;
        file = new AtomicFile(path);
        file.Write(stackalloc byte[ShardHeader.Size]);
    }

    /// <summary>Tokens so far.</summary>
    public long Tokens => offsets[^1];

    /// <summary>Documents so far.</summary>
    public int Documents => keys.Count;

    /// <summary>Appends documents.</summary>
    public void Append(PackedBatch batch)
    {
        WriteHashed(batch.Tokens);
        foreach (PackedDocument document in batch.Documents)
        {
            offsets.Add(offsets[^1] + document.Tokens);
            keys.Add(document.Key);
            textBytes += document.TextBytes;
        }
    }

    /// <summary>Ends the shard.</summary>
    public ShardHeader Commit()
    {
        long tokenBytes = Tokens * tokenizer.BytesPerToken;
        Span<byte> zeros = stackalloc byte[8];
        zeros.Clear();
        WriteHashed(zeros[..(int)(ShardHeader.Padded(tokenBytes) - tokenBytes)]);
        WriteHashed(LittleEndian(CollectionsMarshal.AsSpan(offsets)));
        WriteHashed(LittleEndian(CollectionsMarshal.AsSpan(keys)));

        ShardHeader header = new(tokenizer.BytesPerToken, tokenizer.VocabularySize, tokenizer.DocumentToken, Documents, Tokens, textBytes, tokenizer.Hash, new string('0', 64));
        Span<byte> bytes = stackalloc byte[ShardHeader.Size];
        header.Write(bytes);
        hash.AppendData(bytes[..ShardHeader.CheckedSize]);
        header = header with { Checksum = Convert.ToHexStringLower(hash.GetHashAndReset()) };
        header.Write(bytes);
        file.Seek(0, SeekOrigin.Begin);
        file.Write(bytes);
        file.Commit();
        return header;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        file.Dispose();
        hash.Dispose();
    }

    private static ReadOnlySpan<byte> LittleEndian<T>(Span<T> values)
        where T : unmanaged
    {
        if (!BitConverter.IsLittleEndian)
        {
            Span<long> words = MemoryMarshal.Cast<T, long>(values);
            BinaryPrimitives.ReverseEndianness(words, words);
        }

        return MemoryMarshal.AsBytes(values);
    }

    private void WriteHashed(ReadOnlySpan<byte> bytes)
    {
        hash.AppendData(bytes);
        file.Write(bytes);
    }
}
