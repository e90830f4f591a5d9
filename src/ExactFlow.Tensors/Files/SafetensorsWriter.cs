using System.Buffers;
using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace ExactFlow.Tensors.Files;

/// <summary>
/// Writes a safetensors file without holding it in memory: all tensors are declared first, their values follow in any order and in parts, and
/// <see cref="Commit"/> makes the file appear whole (<see cref="AtomicFile"/>).
/// </summary>
/// <remarks>
/// The bytes depend on the declarations and values only: tensors lie by descending element size, then by name (ordinal), metadata by key; the header is padded
/// with blanks so that the data begins at a multiple of 8 and every tensor is aligned to its elements.
/// </remarks>
public sealed class SafetensorsWriter : IDisposable
{
    private const int Alignment = 8;
    private readonly AtomicFile file;
    private readonly Dictionary<string, Slot> slots = new(StringComparer.Ordinal);

    /// <summary>Creates the file under a temporary name and writes its header.</summary>
    /// <param name="path">The file's final name.</param>
    /// <param name="tensors">Every tensor that will be written; offsets are chosen here.</param>
    /// <param name="metadata">Texts to store under <c>__metadata__</c>.</param>
    /// <exception cref="InvalidInputException">Two tensors of one name, a reserved name, a negative extent, or a disk that refuses.</exception>
    public SafetensorsWriter(string path, IEnumerable<SafetensorsEntry> tensors, IReadOnlyDictionary<string, string>? metadata = null)
    {
        ArgumentNullException.ThrowIfNull(tensors);
        SafetensorsEntry[] ordered = tensors.OrderByDescending(entry => entry.Type.Size()).ThenBy(entry => entry.Name, StringComparer.Ordinal).ToArray();
        long end = 0;
        foreach (SafetensorsEntry entry in ordered)
        {
            if (entry.Name == "__metadata__" || entry.Shape.Any(extent => extent < 0) || !slots.TryAdd(entry.Name, new Slot(entry, end)))
            {
                throw new InvalidInputException(
                    $"Cannot write safetensors file '{path}': tensor '{entry}' is declared twice, has a negative extent or the reserved name __metadata__; rename it.");
            }

            end = checked(end + entry.ByteLength);
        }

        byte[] header = MakeHeader(ordered, metadata);
        if (header.Length > SafetensorsHeader.MaximumBytes)
        {
            throw new InvalidInputException(
                $"Cannot write safetensors file '{path}': its header takes {header.Length} bytes, but readers accept at most {SafetensorsHeader.MaximumBytes}; write several files.");
        }

        file = new AtomicFile(path);
        file.Write(header);
        foreach (Slot slot in slots.Values)
        {
            slot.Position += header.Length;
        }
    }

    /// <summary>Writes values of a tensor.</summary>
    /// <typeparam name="T">The type whose bytes the declared format has: float, double, Half, ushort (BF16 or U16), int, long, byte, bool, ...</typeparam>
    /// <param name="name">A declared tensor.</param>
    /// <param name="values">All of its values, or the next part of them.</param>
    /// <exception cref="InvalidInputException">Undeclared name, other type than declared, more values than declared, or a full disk.</exception>
    public void Write<T>(string name, ReadOnlySpan<T> values)
        where T : unmanaged
    {
        if (!slots.TryGetValue(name, out Slot? slot))
        {
            throw new InvalidInputException($"Cannot write tensor '{name}' to '{file.Path}': it was not declared when the file was created; declare it.");
        }

        ReadOnlySpan<byte> bytes = MemoryMarshal.AsBytes(values);
        if (!SafetensorsConversion.IsStoredAs<T>(slot.Entry.Type) || bytes.Length > slot.Remaining)
        {
            throw new InvalidInputException(
                $"Cannot write {values.Length} values of type {typeof(T).Name} to tensor '{slot.Entry}' of '{file.Path}': {slot.Remaining / slot.Entry.Type.Size()} values of its own format are still to come; convert or cut them.");
        }

        file.Position = slot.Position;
        file.Write(bytes);
        slot.Position += bytes.Length;
        slot.Remaining -= bytes.Length;
    }

    /// <summary>Flushes the file to disk and gives it its final name.</summary>
    /// <exception cref="InvalidInputException">A declared tensor lacks values, or the disk refuses; then no file appears and an older one is untouched.</exception>
    public void Commit()
    {
        if (slots.Values.FirstOrDefault(slot => slot.Remaining != 0) is { } incomplete)
        {
            throw new InvalidInputException($"Cannot finish safetensors file '{file.Path}': tensor '{incomplete.Entry}' lacks {incomplete.Remaining} bytes; write all of its values first.");
        }

        file.Commit();
    }

    /// <summary>Removes the temporary file unless it was committed.</summary>
    public void Dispose() => file.Dispose();

    private byte[] MakeHeader(SafetensorsEntry[] ordered, IReadOnlyDictionary<string, string>? metadata)
    {
        ArrayBufferWriter<byte> buffer = new(4096);
        buffer.Advance(SafetensorsHeader.LengthBytes);
        using (Utf8JsonWriter json = new(buffer, new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            json.WriteStartObject();
            if (metadata is { Count: > 0 })
            {
                json.WriteStartObject("__metadata__");
                foreach ((string key, string text) in metadata.OrderBy(pair => pair.Key, StringComparer.Ordinal))
                {
                    json.WriteString(key, text);
                }

                json.WriteEndObject();
            }

            foreach (SafetensorsEntry entry in ordered)
            {
                WriteEntry(json, slots[entry.Name]);
            }

            json.WriteEndObject();
        }

        int padding = -buffer.WrittenCount & (Alignment - 1);
        buffer.GetSpan(padding)[..padding].Fill((byte)' ');
        buffer.Advance(padding);
        byte[] header = buffer.WrittenSpan.ToArray();
        BinaryPrimitives.WriteInt64LittleEndian(header, header.Length - SafetensorsHeader.LengthBytes);
        return header;
    }

    private static void WriteEntry(Utf8JsonWriter json, Slot slot)
    {
        json.WriteStartObject(slot.Entry.Name);
        json.WriteString("dtype", slot.Entry.Type.FileName());
        json.WriteStartArray("shape");
        foreach (long extent in slot.Entry.Shape)
        {
            json.WriteNumberValue(extent);
        }

        json.WriteEndArray();
        json.WriteStartArray("data_offsets");
        json.WriteNumberValue(slot.Position);
        json.WriteNumberValue(slot.Position + slot.Remaining);
        json.WriteEndArray();
        json.WriteEndObject();
    }

    /// <summary>A tensor on its way to the file: where its next byte goes and how many are still to come.</summary>
    private sealed class Slot(SafetensorsEntry entry, long position)
    {
        public SafetensorsEntry Entry { get; } = entry;

        public long Position { get; set; } = position;

        public long Remaining { get; set; } = entry.ByteLength;
    }
}
