using System.Buffers;
using System.Buffers.Binary;
using System.Text.Encodings.Web;
using System.Text.Json;
using ExactFlow.Tensors;
using Parquet;
using Parquet.Schema;

namespace ExactFlow.Training.Data;

/// <summary>
/// The rows of a Parquet file as JSON lines: an object a row with its columns of text, those of nested lists left out. One row group is in memory at a time, as its columns
/// are stored apart.
/// </summary>
/// <exception cref="InvalidDataException">The file is damaged, or no Parquet file.</exception>
internal sealed class ParquetLines : Stream
{
    private readonly ParquetReader reader;
    private readonly DataField[] fields;
    private readonly ArrayBufferWriter<byte> line = new();
    private readonly Utf8JsonWriter json;
    private string?[][] columns = [];
    private int rowGroup;
    private int row;
    private int rows;
    private int sent;

    /// <summary>Takes a file over.</summary>
    /// <exception cref="InvalidInputException">It has no column of text.</exception>
    public ParquetLines(FileStream file)
    {
        RequireFooter(file);
        json = new Utf8JsonWriter(line, new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping });
        reader = Guarded(() => ParquetReader.CreateAsync(file, leaveStreamOpen: false).GetAwaiter().GetResult());
        fields = [.. reader.Schema.DataFields.Where(field => (field.ClrType == typeof(string) || field.ClrType == typeof(ReadOnlyMemory<char>)) && field.MaxRepetitionLevel == 0)];
        if (fields.Length == 0)
        {
            throw new InvalidInputException($"Cannot read the text '{file.Name}': none of its {reader.Schema.DataFields.Length} columns holds text; name a file that has one.");
        }
    }

    /// <inheritdoc/>
    public override bool CanRead => true;

    /// <inheritdoc/>
    public override bool CanSeek => false;

    /// <inheritdoc/>
    public override bool CanWrite => false;

    /// <inheritdoc/>
    public override long Length => throw new NotSupportedException();

    /// <inheritdoc/>
    public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

    /// <inheritdoc/>
    public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

    /// <inheritdoc/>
    public override int Read(Span<byte> buffer)
    {
        if (sent == line.WrittenCount && !WriteNextLine())
        {
            return 0;
        }

        int count = Math.Min(buffer.Length, line.WrittenCount - sent);
        line.WrittenSpan.Slice(sent, count).CopyTo(buffer);
        sent += count;
        return count;
    }

    /// <inheritdoc/>
    public override void Flush()
    {
    }

    /// <inheritdoc/>
    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    /// <inheritdoc/>
    public override void SetLength(long value) => throw new NotSupportedException();

    /// <inheritdoc/>
    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            json.Dispose();
            reader.DisposeAsync().AsTask().GetAwaiter().GetResult();
        }

        base.Dispose(disposing);
    }

    private bool WriteNextLine()
    {
        while (row == rows)
        {
            if (rowGroup == reader.RowGroupCount)
            {
                return false;
            }

            columns = Guarded(() => ReadRowGroup(rowGroup++));
            rows = columns[0].Length;
            row = 0;
        }

        line.ResetWrittenCount();
        json.Reset();
        json.WriteStartObject();
        for (int i = 0; i < fields.Length; i++)
        {
            json.WriteString(fields[i].Path.ToString(), columns[i][row]);
        }

        json.WriteEndObject();
        json.Flush();
        line.Write("\n"u8);
        row++;
        sent = 0;
        return true;
    }

    private string?[][] ReadRowGroup(int index)
    {
        using ParquetRowGroupReader group = reader.OpenRowGroupReader(index);
        int count = checked((int)group.RowCount);
        return [.. fields.Select(field =>
        {
            var values = new string?[count];
            group.ReadAsync(field, values!).AsTask().GetAwaiter().GetResult();
            return values;
        })];
    }

    /// <summary>A Parquet file ends with its metadata, their length in four bytes, and its mark. The reader allocates whatever that length says, so it is checked before.</summary>
    private static void RequireFooter(FileStream file)
    {
        const int TailLength = 8;
        Span<byte> tail = stackalloc byte[TailLength];
        if (file.Length < TailLength + 4)
        {
            throw new InvalidDataException($"a Parquet file has at least {TailLength + 4} bytes, this one {file.Length}");
        }

        file.Seek(-TailLength, SeekOrigin.End);
        file.ReadExactly(tail);
        file.Seek(0, SeekOrigin.Begin);
        uint length = BinaryPrimitives.ReadUInt32LittleEndian(tail);
        if (!tail[4..].SequenceEqual("PAR1"u8) || length > file.Length - TailLength - 4)
        {
            throw new InvalidDataException("it does not end with Parquet's metadata and mark");
        }
    }

    /// <summary>A reader of a damaged file may fail in any way; here they are one.</summary>
    private static T Guarded<T>(Func<T> read)
    {
        try
        {
            return read();
        }
        catch (Exception exception) when (exception is not OutOfMemoryException)
        {
            throw new InvalidDataException(exception.Message, exception);
        }
    }
}
