using System.Buffers.Binary;
using System.IO.MemoryMappedFiles;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using ExactFlow.Tensors;
using Microsoft.Win32.SafeHandles;

namespace ExactFlow.Training.Packing;

/// <summary>
/// A shard of tokens, mapped into memory: opening reads header, offsets and keys and checks them against each other and the file's length; tokens are read where they lie.
/// <see cref="Verify"/> reads everything and checks the checksum. Safe for several threads.
/// </summary>
/// <remarks>A hostile shard gets an error, never an allocation of more than its own size.</remarks>
public sealed class TokenShard : IDisposable
{
    private const int ChunkBytes = 1 << 12;
    private const int VerifyBytes = 1 << 20;
    private readonly SafeFileHandle? handle;
    private readonly ReadOnlyMemory<byte> contents;
    private readonly MemoryMappedFile? mapping;
    private readonly MemoryMappedViewAccessor? view;
    private readonly long[] offsets;
    private readonly ulong[] keys;

    private TokenShard(string path, SafeFileHandle? handle, ReadOnlyMemory<byte> contents)
    {
        Path = path;
        this.handle = handle;
        this.contents = contents;
        long length = handle is null ? contents.Length : RandomAccess.GetLength(handle);
        Span<byte> header = stackalloc byte[(int)Math.Min(ShardHeader.Size, length)];
        ReadAt(0, header);
        Header = ShardHeader.Parse(header, length, path);
        offsets = new long[Header.Documents + 1];
        keys = new ulong[Header.Documents];
        ReadWords(Header.OffsetsStart, MemoryMarshal.Cast<long, ulong>(offsets.AsSpan()));
        ReadWords(Header.OffsetsStart + (offsets.Length * (long)sizeof(long)), keys);
        CheckOffsets();
        if (handle is not null)
        {
            mapping = MemoryMappedFile.CreateFromFile(handle, null, 0, MemoryMappedFileAccess.Read, HandleInheritability.None, leaveOpen: true);
            view = mapping.CreateViewAccessor(0, length, MemoryMappedFileAccess.Read);
        }
    }

    /// <summary>The file's name, as in messages.</summary>
    public string Path { get; }

    /// <summary>What the file says about itself.</summary>
    public ShardHeader Header { get; }

    /// <summary>Opens a shard.</summary>
    /// <exception cref="InvalidInputException">Missing, unreadable, no shard, cut off or damaged.</exception>
    public static TokenShard Open(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        SafeFileHandle? handle = null;
        try
        {
            handle = File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete);
            return new TokenShard(path, handle, default);
        }
        catch (Exception exception)
        {
            handle?.Dispose();
            if (exception is not (IOException or UnauthorizedAccessException or NotSupportedException))
            {
                throw;
            }

            string why = exception is FileNotFoundException or DirectoryNotFoundException ? "it does not exist; check the name, or pack the text again" : $"{exception.Message.TrimEnd('.')}; check its permissions and the disk";
            throw new InvalidInputException($"Cannot read shard '{path}': {why}.", exception);
        }
    }

    /// <summary>Reads a shard that is in memory; the memory must not change while this object is used.</summary>
    /// <param name="contents">The file.</param>
    /// <param name="name">A name for messages.</param>
    public static TokenShard Parse(ReadOnlyMemory<byte> contents, string name = "(in memory)") => new(name, null, contents);

    /// <summary>The first token of a document; of the number of documents: the number of tokens.</summary>
    public long Start(long document) => offsets[document];

    /// <summary>The key of a document: the beginning of the SHA-256 of its text.</summary>
    public ulong Key(long document) => keys[document];

    /// <summary>Reads tokens.</summary>
    /// <param name="start">The first one.</param>
    /// <param name="destination">Filled completely.</param>
    public void Read(long start, Span<int> destination)
    {
        if (start < 0 || start > Header.Tokens - destination.Length)
        {
            throw new ArgumentOutOfRangeException(nameof(start), $"Shard '{Path}' has {Header.Tokens} tokens; {destination.Length} from {start} were asked for.");
        }

        if (Header.BytesPerToken == sizeof(int))
        {
            ReadMapped(ShardHeader.Size + (start * sizeof(int)), MemoryMarshal.AsBytes(destination));
            if (!BitConverter.IsLittleEndian)
            {
                BinaryPrimitives.ReverseEndianness(destination, destination);
            }

            return;
        }

        Span<ushort> chunk = stackalloc ushort[ChunkBytes / sizeof(ushort)];
        while (!destination.IsEmpty)
        {
            Span<ushort> narrow = chunk[..Math.Min(chunk.Length, destination.Length)];
            ReadMapped(ShardHeader.Size + (start * sizeof(ushort)), MemoryMarshal.AsBytes(narrow));
            for (int i = 0; i < narrow.Length; i++)
            {
                destination[i] = BitConverter.IsLittleEndian ? narrow[i] : BinaryPrimitives.ReverseEndianness(narrow[i]);
            }

            destination = destination[narrow.Length..];
            start += narrow.Length;
        }
    }

    /// <summary>Reads the whole file and checks its checksum, and that no token is beyond the vocabulary.</summary>
    /// <exception cref="InvalidInputException">The file was changed since it was written.</exception>
    public void Verify()
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        long tokensEnd = ShardHeader.Size + (Header.Tokens * Header.BytesPerToken);
        var buffer = new byte[(int)Math.Min(VerifyBytes, Header.FileLength)];
        for (long at = ShardHeader.Size; at < Header.FileLength;)
        {
            // Parts end where the tokens do, so that each holds tokens only or none.
            long end = at < tokensEnd ? tokensEnd : Header.FileLength;
            Span<byte> part = buffer.AsSpan(0, (int)Math.Min(buffer.Length & ~3, end - at));
            ReadAt(at, part);
            if (at < tokensEnd)
            {
                RequireWithinVocabulary(part);
            }

            hash.AppendData(part);
            at += part.Length;
        }

        Span<byte> header = stackalloc byte[ShardHeader.Size];
        Header.Write(header);
        hash.AppendData(header[..ShardHeader.CheckedSize]);
        string found = Convert.ToHexStringLower(hash.GetHashAndReset());
        if (found != Header.Checksum)
        {
            throw ShardHeader.Damaged(Path, $"its SHA-256 must be {Header.Checksum[..12]}…, but is {found[..12]}…");
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        view?.Dispose();
        mapping?.Dispose();
        handle?.Dispose();
    }

    private void CheckOffsets()
    {
        if (offsets[0] != 0 || offsets[^1] != Header.Tokens)
        {
            throw ShardHeader.Damaged(Path, $"its documents must lie from token 0 to {Header.Tokens}, but lie from {offsets[0]} to {offsets[^1]}");
        }

        for (int i = 1; i < offsets.Length; i++)
        {
            if (offsets[i] <= offsets[i - 1])
            {
                throw ShardHeader.Damaged(Path, $"document {i - 1} begins at token {offsets[i - 1]} and ends at {offsets[i]}");
            }
        }
    }

    private void RequireWithinVocabulary(ReadOnlySpan<byte> part)
    {
        int index = Header.BytesPerToken == sizeof(ushort) && BitConverter.IsLittleEndian
            ? MemoryMarshal.Cast<byte, ushort>(part).IndexOfAnyExceptInRange((ushort)0, (ushort)(Header.VocabularySize - 1))
            : Header.BytesPerToken == sizeof(int) && BitConverter.IsLittleEndian
                ? MemoryMarshal.Cast<byte, int>(part).IndexOfAnyExceptInRange(0, Header.VocabularySize - 1)
                : -1;
        if (index >= 0)
        {
            throw ShardHeader.Damaged(Path, $"a token lies beyond the vocabulary of {Header.VocabularySize}");
        }
    }

    private void ReadMapped(long position, Span<byte> destination)
    {
        if (view is null)
        {
            ReadAt(position, destination);
            return;
        }

        view.SafeMemoryMappedViewHandle.ReadSpan((ulong)(view.PointerOffset + position), destination);
    }

    private void ReadWords(long position, Span<ulong> words)
    {
        ReadAt(position, MemoryMarshal.AsBytes(words));
        if (!BitConverter.IsLittleEndian)
        {
            BinaryPrimitives.ReverseEndianness(words, words);
        }
    }

    private void ReadAt(long position, Span<byte> destination)
    {
        if (handle is null)
        {
            contents.Span.Slice((int)position, destination.Length).CopyTo(destination);
            return;
        }

        try
        {
            while (!destination.IsEmpty)
            {
                int read = RandomAccess.Read(handle, destination, position);
                if (read == 0)
                {
                    throw ShardHeader.Damaged(Path, $"the file ended at byte {position} while it was read");
                }

                destination = destination[read..];
                position += read;
            }
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new InvalidInputException($"Cannot read shard '{Path}' at byte {position}: {exception.Message.TrimEnd('.')}; check the disk.", exception);
        }
    }
}
