using System.Buffers;
using System.Text.Encodings.Web;
using System.Text.Json;
using ExactFlow.Tensors;

namespace ExactFlow.Training.Runs;

/// <summary>
/// A file of one JSON object per line that only grows, except that a resumed run cuts it back to its checkpoint. A line is handed to the operating system
/// whole as soon as it is written, so another program can follow the file, and a killed process tears at most nothing. Writing a line allocates nothing.
/// </summary>
public sealed class RunLog : IDisposable
{
    private readonly FileStream stream;
    private readonly ArrayBufferWriter<byte> line = new(256);
    private readonly Utf8JsonWriter writer;

    /// <summary>Opens or makes the file; what it holds stays.</summary>
    /// <exception cref="InvalidInputException">It cannot be written.</exception>
    public RunLog(string path)
    {
        try
        {
            stream = new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.Read, bufferSize: 0);
            stream.Seek(0, SeekOrigin.End);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new InvalidInputException($"The log '{path}' cannot be written: {exception.Message.TrimEnd('.')}; choose another folder.", exception);
        }

        writer = new Utf8JsonWriter(line, new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping });
    }

    /// <summary>Bytes written.</summary>
    public long Length => stream.Position;

    /// <summary>Begins a line: write the object's properties, then call <see cref="End"/>.</summary>
    public Utf8JsonWriter Begin(string kind, int step)
    {
        line.ResetWrittenCount();
        writer.Reset(line);
        writer.WriteStartObject();
        writer.WriteString("kind", kind);
        writer.WriteNumber("step", step);
        return writer;
    }

    /// <summary>Writes the line.</summary>
    /// <exception cref="InvalidInputException">The disk is full or refuses.</exception>
    public void End()
    {
        writer.WriteEndObject();
        writer.Flush();
        line.GetSpan(1)[0] = (byte)'\n';
        line.Advance(1);
        long start = stream.Position;
        try
        {
            stream.Write(line.WrittenSpan);
        }
        catch (IOException exception)
        {
            Cut(start);
            throw new InvalidInputException(
                $"Writing to the log '{stream.Name}' failed ({exception.Message.TrimEnd('.')}): make room and continue with --resume auto; checkpoints are intact.", exception);
        }
    }

    /// <summary>Forces what was written to the disk itself.</summary>
    public void FlushToDisk() => stream.Flush(flushToDisk: true);

    /// <summary>Cuts the file back to a length it once had.</summary>
    /// <exception cref="InvalidInputException">It is shorter.</exception>
    public void Rewind(long length)
    {
        if (stream.Length < length)
        {
            throw new InvalidInputException(
                $"The log '{stream.Name}' has {stream.Length} bytes, but the checkpoint to resume from was written when it had {length}: restore the file or start a new run.");
        }

        Cut(length);
    }

    /// <summary>Closes the file.</summary>
    public void Dispose()
    {
        writer.Dispose();
        stream.Dispose();
    }

    private void Cut(long length)
    {
        stream.SetLength(length);
        stream.Seek(length, SeekOrigin.Begin);
    }
}
