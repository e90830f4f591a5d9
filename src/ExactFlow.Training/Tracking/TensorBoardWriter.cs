using System.Buffers.Binary;
using System.Globalization;
using System.Numerics;
using System.Text;
using ExactFlow.Tensors;

namespace ExactFlow.Training.Tracking;

/// <summary>
/// Writes the event files that TensorBoard reads: scalars and texts per step. Each opening makes a new file in the folder; a resumed run tells TensorBoard to
/// forget the steps it will write again.
/// </summary>
/// <remarks>
/// A file is a sequence of records (length, masked CRC-32C of it, data, masked CRC-32C of it; TensorFlow's <c>TFRecord</c>), each an <c>Event</c> message in protocol-buffer
/// encoding (TensorFlow's <c>event.proto</c>, <c>summary.proto</c>), of which only the fields used here are written.
/// Not for several threads at once.
/// </remarks>
public sealed class TensorBoardWriter : IDisposable
{
    private static int filesOpened;
    private readonly FileStream file;
    private readonly TimeProvider clock;
    private readonly ProtoBuffer message = new();
    private readonly ProtoBuffer summary = new();
    private readonly ProtoBuffer value = new();
    private readonly ProtoBuffer part = new();

    /// <summary>Opens a new event file.</summary>
    /// <param name="folder">The folder of the run, created if missing.</param>
    /// <param name="lastStep">The step of the checkpoint a run resumes from: TensorBoard drops later ones of older files. Null for a new run.</param>
    /// <param name="clock">Where wall times come from; the system's clock if null.</param>
    /// <exception cref="InvalidInputException">The folder cannot be written.</exception>
    public TensorBoardWriter(string folder, long? lastStep = null, TimeProvider? clock = null)
    {
        ArgumentException.ThrowIfNullOrEmpty(folder);
        this.clock = clock ?? TimeProvider.System;
        string name = string.Create(CultureInfo.InvariantCulture,
            $"events.out.tfevents.{this.clock.GetUtcNow().ToUnixTimeSeconds()}.exactflow.{Environment.ProcessId}.{Interlocked.Increment(ref filesOpened)}");
        try
        {
            Directory.CreateDirectory(folder);
            file = new FileStream(Path.Combine(folder, name), FileMode.CreateNew, FileAccess.Write, FileShare.Read);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw Unwritable(folder, exception);
        }

        BeginEvent(step: null);
        message.String(EventField.FileVersion, "brain.Event:2");
        WriteRecord();
        if (lastStep is { } step)
        {
            const int Status = 1, Start = 1;
            BeginEvent(step + 1);
            part.Clear();
            part.Varint(Status, Start);
            message.Message(EventField.SessionLog, part);
            WriteRecord();
        }

        Flush();
    }

    /// <summary>The event file.</summary>
    public string FilePath => file.Name;

    /// <summary>Writes a point of a curve.</summary>
    /// <param name="tag">The curve's name; a slash groups curves: <c>loss/validation</c>.</param>
    /// <param name="step">Its place.</param>
    /// <param name="number">Its height, kept in single precision.</param>
    public void Scalar(string tag, long step, double number)
    {
        value.Clear();
        value.String(ValueField.Tag, tag);
        value.Float(ValueField.SimpleValue, (float)number);
        WriteSummary(step);
    }

    /// <summary>Writes a text, shown as Markdown.</summary>
    /// <param name="tag">Its name.</param>
    /// <param name="step">Its place.</param>
    /// <param name="text">The text.</param>
    public void Text(string tag, long step, string text)
    {
        value.Clear();
        value.String(ValueField.Tag, tag);

        // A text is a tensor of one string, marked for the plugin "text".
        const int DataType = 1, StringType = 7, TensorShape = 2, StringValue = 8;
        part.Clear();
        part.Varint(DataType, StringType);
        part.Bytes(TensorShape, [0x12, 0x02, 0x08, 0x01]);
        part.String(StringValue, text);
        value.Message(ValueField.Tensor, part);
        value.Bytes(ValueField.Metadata, [0x0A, 0x06, 0x0A, 0x04, (byte)'t', (byte)'e', (byte)'x', (byte)'t']);
        WriteSummary(step);
    }

    /// <summary>Hands buffered records to the operating system.</summary>
    public void Flush() => Guard(file.Flush);

    /// <summary>Writes what is buffered and closes the file.</summary>
    public void Dispose() => Guard(file.Dispose);

    /// <summary>The CRC-32C (Castagnoli) of data.</summary>
    internal static uint Crc32C(ReadOnlySpan<byte> data)
    {
        uint crc = uint.MaxValue;
        for (; data.Length >= 8; data = data[8..])
        {
            crc = BitOperations.Crc32C(crc, BinaryPrimitives.ReadUInt64LittleEndian(data));
        }

        foreach (byte one in data)
        {
            crc = BitOperations.Crc32C(crc, one);
        }

        return ~crc;
    }

    /// <summary>Records store sums rotated and shifted, because sums of data that holds its own sum are weak.</summary>
    private static uint MaskedCrc(ReadOnlySpan<byte> data) => BitOperations.RotateRight(Crc32C(data), 15) + 0xA282EAD8;

    private static InvalidInputException Unwritable(string path, Exception exception)
        => new($"Cannot write TensorBoard events to '{path}': {exception.Message.TrimEnd('.')}; check the folder, its permissions and free space.", exception);

    private void WriteSummary(long step)
    {
        const int SummaryValue = 1;
        summary.Clear();
        summary.Message(SummaryValue, value);
        BeginEvent(step);
        message.Message(EventField.Summary, summary);
        WriteRecord();
    }

    private void BeginEvent(long? step)
    {
        message.Clear();
        message.Double(EventField.WallTime, (clock.GetUtcNow() - DateTimeOffset.UnixEpoch).TotalSeconds);
        if (step is { } known)
        {
            message.Varint(EventField.Step, (ulong)known);
        }
    }

    private void WriteRecord()
    {
        Span<byte> head = stackalloc byte[12];
        BinaryPrimitives.WriteUInt64LittleEndian(head, (ulong)message.Written.Length);
        BinaryPrimitives.WriteUInt32LittleEndian(head[8..], MaskedCrc(head[..8]));
        Span<byte> foot = stackalloc byte[4];
        BinaryPrimitives.WriteUInt32LittleEndian(foot, MaskedCrc(message.Written));
        try
        {
            file.Write(head);
            file.Write(message.Written);
            file.Write(foot);
        }
        catch (IOException exception)
        {
            throw Unwritable(file.Name, exception);
        }
    }

    private void Guard(Action action)
    {
        try
        {
            action();
        }
        catch (IOException exception)
        {
            throw Unwritable(file.Name, exception);
        }
    }

    /// <summary>Field numbers of <c>tensorflow.Event</c>.</summary>
    private static class EventField
    {
        public const int WallTime = 1, Step = 2, FileVersion = 3, Summary = 5, SessionLog = 7;
    }

    /// <summary>Field numbers of <c>tensorflow.Summary.Value</c>.</summary>
    private static class ValueField
    {
        public const int Tag = 1, SimpleValue = 2, Tensor = 8, Metadata = 9;
    }

    /// <summary>A protocol-buffer message under construction.</summary>
    private sealed class ProtoBuffer
    {
        private const int VarintType = 0, Fixed64Type = 1, LengthType = 2, Fixed32Type = 5;
        private byte[] bytes = new byte[256];
        private int count;

        public ReadOnlySpan<byte> Written => bytes.AsSpan(0, count);

        public void Clear() => count = 0;

        public void Varint(int field, ulong number)
        {
            Key(field, VarintType);
            RawVarint(number);
        }

        public void Double(int field, double number)
        {
            Key(field, Fixed64Type);
            BinaryPrimitives.WriteDoubleLittleEndian(Reserve(8), number);
        }

        public void Float(int field, float number)
        {
            Key(field, Fixed32Type);
            BinaryPrimitives.WriteSingleLittleEndian(Reserve(4), number);
        }

        public void Bytes(int field, ReadOnlySpan<byte> value)
        {
            Key(field, LengthType);
            RawVarint((ulong)value.Length);
            value.CopyTo(Reserve(value.Length));
        }

        public void String(int field, string text)
        {
            int length = Encoding.UTF8.GetByteCount(text);
            Key(field, LengthType);
            RawVarint((ulong)length);
            Encoding.UTF8.GetBytes(text, Reserve(length));
        }

        public void Message(int field, ProtoBuffer inner) => Bytes(field, inner.Written);

        private void Key(int field, int wireType) => RawVarint((ulong)((field << 3) | wireType));

        private void RawVarint(ulong number)
        {
            for (; number >= 0x80; number >>= 7)
            {
                Reserve(1)[0] = (byte)(number | 0x80);
            }

            Reserve(1)[0] = (byte)number;
        }

        private Span<byte> Reserve(int length)
        {
            if (count + length > bytes.Length)
            {
                Array.Resize(ref bytes, Math.Max(2 * bytes.Length, count + length));
            }

            count += length;
            return bytes.AsSpan(count - length, length);
        }
    }
}
