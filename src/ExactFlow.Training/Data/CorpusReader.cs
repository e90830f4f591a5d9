using System.Buffers;
using System.Text;
using ExactFlow.Tensors;
using ZstdSharp;

namespace ExactFlow.Training.Data;

/// <summary>
/// Streams the entries of a corpus in batches of about a megabyte, whatever its size: never more than one batch is held here. A file of text is one document, ended by a
/// line feed, unless a document start is given; JSON lines are handed on as they are, for <see cref="JsonLineField"/>.
/// </summary>
public sealed class CorpusReader
{
    /// <summary>Bytes after which a text is cut into several documents, at the end of a line: 4 MiB.</summary>
    public const int LongestDocument = 1 << 22;

    /// <summary>Bytes of the longest line of JSON: 128 MiB.</summary>
    public const int LongestLine = 1 << 27;

    private const int BatchBytes = 1 << 20;

    private readonly IReadOnlyList<CorpusFile> files;
    private readonly ReadOnlyMemory<byte> documentStart;

    /// <summary>A reader of files.</summary>
    /// <param name="files">The files, read one after another.</param>
    /// <param name="documentStart">With what the first line of every document of a text begins; null where a file is one document.</param>
    public CorpusReader(IReadOnlyList<CorpusFile> files, string? documentStart = null)
    {
        this.files = files ?? throw new ArgumentNullException(nameof(files));
        this.documentStart = Encoding.UTF8.GetBytes(documentStart ?? "");
    }

    /// <summary>Reads from a place on; the receiver disposes each batch.</summary>
    /// <exception cref="InvalidInputException">A file cannot be read, is damaged, binary, or has too long a line.</exception>
    public IEnumerable<CorpusBatch> Read(CorpusPosition from = default)
    {
        for (int i = from.File; i < files.Count; i++)
        {
            long skip = i == from.File ? from.Entry : 0;
            foreach (CorpusBatch batch in ReadFile(i))
            {
                if (batch.First.Entry + batch.Count <= skip)
                {
                    batch.Dispose();
                    continue;
                }

                batch.Skip = (int)Math.Max(0, skip - batch.First.Entry);
                yield return batch;
            }
        }
    }

    private IEnumerable<CorpusBatch> ReadFile(int index)
    {
        CorpusFile file = files[index];
        using Stream stream = Open(file);
        EntrySplitter splitter = EntrySplitter.For(file.Format, documentStart);
        int limit = file.Format == CorpusFormat.JsonLines ? LongestLine : LongestDocument;
        byte[] buffer = ArrayPool<byte>.Shared.Rent(file.Coding != CorpusCoding.None ? BatchBytes : (int)Math.Clamp(file.Length + 2, 1 << 12, splitter.MayCut && documentStart.IsEmpty ? LongestDocument : BatchBytes));
        int filled = 0;
        long entry = 0, offset = 0;
        bool isEnd = false;
        while (!isEnd)
        {
            int read = ReadInto(file, stream, buffer.AsSpan(filled));
            isEnd = read == 0;
            RequireText(file, buffer.AsSpan(filled, read), offset);
            filled = offset == 0 ? WithoutByteOrderMark(buffer, filled + read) : filled + read;
            offset += read;
            if (filled < buffer.Length && !isEnd)
            {
                continue;
            }

            List<int> ends = [];
            splitter.AddEnds(buffer.AsSpan(0, filled), ends);
            if (isEnd)
            {
                EndLastEntry(file, ref buffer, ref filled, ends);
            }
            else if (ends.Count == 0 && buffer.Length < limit)
            {
                buffer = Grow(buffer, filled);
                continue;
            }
            else if (ends.Count == 0)
            {
                ends.Add(splitter.MayCut ? EntrySplitter.Cut(buffer.AsSpan(0, filled)) : throw LineTooLong(file, entry));
            }

            if (ends.Count == 0)
            {
                break;
            }

            byte[] rest = ArrayPool<byte>.Shared.Rent(Math.Max(BatchBytes, filled - ends[^1] + 1));
            buffer.AsSpan(ends[^1], filled - ends[^1]).CopyTo(rest);
            filled -= ends[^1];
            yield return new CorpusBatch(file, new CorpusPosition(index, entry), buffer, [.. ends]);
            entry += ends.Count;
            buffer = rest;
        }

        ArrayPool<byte>.Shared.Return(buffer);
    }

    /// <summary>What is left when the file ends is the last entry; a text is ended by a line feed.</summary>
    private static void EndLastEntry(CorpusFile file, ref byte[] buffer, ref int filled, List<int> ends)
    {
        if (filled == (ends.Count == 0 ? 0 : ends[^1]))
        {
            return;
        }

        if (file.Format == CorpusFormat.Text && buffer[filled - 1] != (byte)'\n')
        {
            if (filled == buffer.Length)
            {
                buffer = Grow(buffer, filled);
            }

            buffer[filled++] = (byte)'\n';
        }

        ends.Add(filled);
    }

    private static byte[] Grow(byte[] buffer, int filled)
    {
        byte[] larger = ArrayPool<byte>.Shared.Rent(buffer.Length * 2);
        buffer.AsSpan(0, filled).CopyTo(larger);
        ArrayPool<byte>.Shared.Return(buffer);
        return larger;
    }

    private static int WithoutByteOrderMark(byte[] buffer, int filled)
    {
        ReadOnlySpan<byte> mark = [0xEF, 0xBB, 0xBF];
        if (!buffer.AsSpan(0, filled).StartsWith(mark))
        {
            return filled;
        }

        buffer.AsSpan(mark.Length, filled - mark.Length).CopyTo(buffer);
        return filled - mark.Length;
    }

    private static Stream Open(CorpusFile file)
    {
        FileStream? stream = null;
        try
        {
            stream = new FileStream(file.FullPath, FileMode.Open, FileAccess.Read, FileShare.Read, 1, FileOptions.SequentialScan);
            return file.Coding switch
            {
                CorpusCoding.Gzip => Gzip.Decompress(stream),
                CorpusCoding.Zstandard => new DecompressionStream(stream, leaveOpen: false),
                CorpusCoding.Parquet => new ParquetLines(stream),
                _ => stream,
            };
        }
        catch (InvalidDataException exception)
        {
            stream?.Dispose();
            throw Damaged(file, exception);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new InvalidInputException($"Cannot read the text '{file.FullPath}': {exception.Message.TrimEnd('.')}; check the name and its permissions.", exception);
        }
    }

    /// <summary>Fills as much as there is: a decompressor hands out little at a time.</summary>
    private static int ReadInto(CorpusFile file, Stream stream, Span<byte> destination)
    {
        try
        {
            return stream.ReadAtLeast(destination, destination.Length, throwOnEndOfStream: false);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException or InvalidDataException or ZstdException)
        {
            throw Damaged(file, exception);
        }
    }

    private static InvalidInputException Damaged(CorpusFile file, Exception exception)
    {
        string remedy = file.Coding == CorpusCoding.None ? "check the disk" : $"the {file.Coding switch { CorpusCoding.Gzip => "gzip", CorpusCoding.Zstandard => "Zstandard", _ => "Parquet" }} file is damaged or cut off: fetch it again";
        return new InvalidInputException($"Cannot read the text '{file.FullPath}': {exception.Message.TrimEnd('.')}; {remedy}.", exception);
    }

    private static void RequireText(CorpusFile file, ReadOnlySpan<byte> bytes, long offset)
    {
        int zero = bytes.IndexOf((byte)0);
        if (zero >= 0)
        {
            throw new InvalidInputException($"Cannot read the text '{file.FullPath}': it is no text, byte {offset + zero} is zero; name a UTF-8 text file (UTF-16 must be converted).");
        }
    }

    private static InvalidInputException LineTooLong(CorpusFile file, long entry)
        => new($"Cannot read '{file.FullPath}': line {entry + 1} is longer than {LongestLine >> 20} MiB; JSON lines hold one object a line.");
}
