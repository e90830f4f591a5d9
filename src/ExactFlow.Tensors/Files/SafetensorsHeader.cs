using System.Text;
using System.Text.Json;
using System.Text.Unicode;

namespace ExactFlow.Tensors.Files;

/// <summary>
/// The JSON header of a safetensors file, checked completely before anything else is read: every tensor's dtype and shape give its byte length, the byte
/// ranges cover the data without holes or overlap, and no key stands twice.
/// </summary>
/// <remarks>
/// A header may be hostile, so memory is bounded by the header's own size: tensors are counted in a first pass, then kept as records that point into the JSON
/// (43 bytes a tensor with its name, which takes at least 50 in the JSON); names and shapes become objects only when asked for.
/// </remarks>
internal sealed class SafetensorsHeader
{
    public const int MaximumBytes = 100_000_000;
    public const int MaximumMetadataEntries = 8192;
    public const int LengthBytes = 8;
    private const string MetadataKey = "__metadata__";

    private readonly string file;
    private readonly byte[] json;
    private readonly long dataLength;
    private readonly Record[] records;
    private readonly JsonNameTable names;
    private int metadataStart = -1;

    /// <summary>Parses and checks.</summary>
    /// <param name="file">Name for messages.</param>
    /// <param name="json">The header's bytes; kept.</param>
    /// <param name="dataLength">Bytes that follow the header in the file.</param>
    public SafetensorsHeader(string file, byte[] json, long dataLength)
    {
        this.file = file;
        this.json = json;
        this.dataLength = dataLength;
        if (json[0] != (byte)'{')
        {
            throw Error(0, $"expected '{{', the start of the JSON header, but found byte 0x{json[0]:X2}");
        }

        if (!Utf8.IsValid(json))
        {
            throw Error(0, "the header is not valid UTF-8");
        }

        Utf8JsonReader reader = new(json);
        try
        {
            int count = CountTensors(ref reader);
            records = new Record[count];
            names = new JsonNameTable(json, count);
            reader = new(json);
            ReadRecords(ref reader);
        }
        catch (Exception exception) when (exception is JsonException or InvalidOperationException)
        {
            // The reader throws the second kind for escapes that are no character.
            throw Error(reader.BytesConsumed, $"the header is not valid JSON ({Shorten(exception.Message)})");
        }

        CheckCoverage();
    }

    /// <summary>Number of tensors.</summary>
    public int Count => records.Length;

    /// <summary>A tensor by its place in the header.</summary>
    public SafetensorsEntry this[int index]
    {
        get
        {
            Record record = records[index];
            Utf8JsonReader reader = new(json.AsSpan(record.ObjectStart));
            reader.Read();
            List<long> shape = [];
            ReadEntry(ref reader, index, ref record, shape);
            return new SafetensorsEntry(names[index], record.Type, shape.ToArray()) { Offset = LengthBytes + json.Length + record.Begin };
        }
    }

    /// <summary>The place of a tensor by name, or -1.</summary>
    public int IndexOf(string name) => names.IndexOf(name);

    /// <summary>The text entries under <c>__metadata__</c>.</summary>
    public Dictionary<string, string> ReadMetadata()
    {
        Dictionary<string, string> metadata = new(StringComparer.Ordinal);
        if (metadataStart < 0)
        {
            return metadata;
        }

        Utf8JsonReader reader = new(json.AsSpan(metadataStart));
        reader.Read();
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            string key = reader.GetString()!;
            reader.Read();
            metadata.Add(key, reader.GetString()!);
        }

        return metadata;
    }

    private static string Shorten(string text)
    {
        int end = text.IndexOf(" LineNumber", StringComparison.Ordinal);
        return (end < 0 ? text : text[..end]).TrimEnd('.', ' ');
    }

    /// <summary>A name fit for a message: at most 64 characters, control characters made visible.</summary>
    private static string Quote(string name)
    {
        ReadOnlySpan<char> shown = name.AsSpan(0, Math.Min(64, name.Length));
        StringBuilder builder = new("'");
        foreach (char character in shown)
        {
            builder.Append(char.IsControl(character) ? '?' : character);
        }

        return builder.Append(shown.Length < name.Length ? "...'" : "'").ToString();
    }

    private static string Found(ref Utf8JsonReader reader)
        => reader.TokenType is JsonTokenType.Number or JsonTokenType.String or JsonTokenType.PropertyName
            ? Quote(Encoding.UTF8.GetString(reader.ValueSpan[..Math.Min(256, reader.ValueSpan.Length)]))
            : $"a {reader.TokenType}";

    private static bool IsMetadata(ref Utf8JsonReader reader) => JsonNameTable.EscapesAreCharacters(reader.ValueSpan) && reader.ValueTextEquals(MetadataKey);

    private static int CountTensors(ref Utf8JsonReader reader)
    {
        int count = 0;
        reader.Read();
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            count += IsMetadata(ref reader) ? 0 : 1;
            reader.Read();
            reader.Skip();
        }

        // One more read lets the JSON reader see, and refuse, anything but blanks after the closing brace.
        reader.Read();
        return count;
    }

    private void ReadRecords(ref Utf8JsonReader reader)
    {
        reader.Read();
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            if (!IsMetadata(ref reader))
            {
                int index = names.Count;
                AddName(ref reader, names, "the header");
                reader.Read();
                records[index].ObjectStart = (int)reader.TokenStartIndex;
                ReadEntry(ref reader, index, ref records[index], null);
            }
            else if (metadataStart < 0)
            {
                reader.Read();
                metadataStart = (int)reader.TokenStartIndex;
                CheckMetadata(ref reader);
            }
            else
            {
                throw Error(reader.TokenStartIndex, $"the key '{MetadataKey}' stands twice");
            }
        }
    }

    private void CheckMetadata(ref Utf8JsonReader reader)
    {
        if (reader.TokenType != JsonTokenType.StartObject)
        {
            throw Error(reader.TokenStartIndex, $"'{MetadataKey}' must be an object of texts, but {Found(ref reader)} stands there");
        }

        JsonNameTable keys = new(json, MaximumMetadataEntries);
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            if (keys.Count == MaximumMetadataEntries)
            {
                throw Error(reader.TokenStartIndex, $"'{MetadataKey}' has more than the {MaximumMetadataEntries} entries that are read");
            }

            AddName(ref reader, keys, MetadataKey);
            reader.Read();
            if (reader.TokenType != JsonTokenType.String || !JsonNameTable.EscapesAreCharacters(reader.ValueSpan))
            {
                throw Error(reader.TokenStartIndex, $"entry {Quote(keys[keys.Count - 1])} of '{MetadataKey}' must be a text, but {Found(ref reader)} stands there");
            }
        }
    }

    private void AddName(ref Utf8JsonReader reader, JsonNameTable table, string place)
    {
        if (reader.ValueSpan.Length > JsonNameTable.MaximumNameBytes)
        {
            throw Error(reader.TokenStartIndex, $"a name has {reader.ValueSpan.Length} bytes, more than the {JsonNameTable.MaximumNameBytes} that are read");
        }

        if (!JsonNameTable.EscapesAreCharacters(reader.ValueSpan))
        {
            throw Error(reader.TokenStartIndex, $"the name {Found(ref reader)} holds an escape that is no character");
        }

        if (!table.TryAdd(ref reader))
        {
            throw Error(reader.TokenStartIndex, $"the name {Found(ref reader)} stands twice in {place}");
        }
    }

    /// <summary>Reads <c>{"dtype": ..., "shape": [...], "data_offsets": [begin, end]}</c>, the keys in any order, each exactly once.</summary>
    private void ReadEntry(ref Utf8JsonReader reader, int index, ref Record record, List<long>? shape)
    {
        if (reader.TokenType != JsonTokenType.StartObject)
        {
            throw EntryError(index, reader.TokenStartIndex, $"expected an object with dtype, shape and data_offsets, but a {reader.TokenType} stands there");
        }

        bool hasType = false, hasShape = false, hasOffsets = false;
        long count = 1;
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            ref bool seen = ref hasType;
            if (reader.ValueTextEquals("dtype"u8))
            {
                RefuseSecond(hasType, index, reader.TokenStartIndex, "dtype");
                reader.Read();
                record.Type = ReadType(ref reader, index);
            }
            else if (reader.ValueTextEquals("shape"u8))
            {
                seen = ref hasShape;
                RefuseSecond(hasShape, index, reader.TokenStartIndex, "shape");
                reader.Read();
                count = ReadShape(ref reader, index, shape);
            }
            else if (reader.ValueTextEquals("data_offsets"u8))
            {
                seen = ref hasOffsets;
                RefuseSecond(hasOffsets, index, reader.TokenStartIndex, "data_offsets");
                reader.Read();
                (record.Begin, record.End) = ReadOffsets(ref reader, index);
            }
            else
            {
                throw EntryError(index, reader.TokenStartIndex, "it has a key other than dtype, shape and data_offsets");
            }

            seen = true;
        }

        if (!hasType || !hasShape || !hasOffsets)
        {
            throw EntryError(index, reader.TokenStartIndex, $"it lacks {(hasType ? hasShape ? "data_offsets" : "shape" : "dtype")}");
        }

        Int128 needed = (Int128)count * record.Type.Size();
        if (needed != record.End - record.Begin)
        {
            throw EntryError(index, reader.TokenStartIndex,
                $"{count} elements of {record.Type.FileName()} need {needed} bytes, but data_offsets [{record.Begin}, {record.End}] hold {record.End - record.Begin}");
        }
    }

    private void RefuseSecond(bool seen, int index, long position, string key)
    {
        if (seen)
        {
            throw EntryError(index, position, $"its key {key} stands twice");
        }
    }

    private SafetensorsType ReadType(ref Utf8JsonReader reader, int index)
        => reader.TokenType == JsonTokenType.String && SafetensorsTypeExtensions.TryParse(reader.ValueSpan, out SafetensorsType type)
            ? type
            : throw EntryError(index, reader.TokenStartIndex, $"its dtype must be one of {SafetensorsTypeExtensions.Known}, but {Found(ref reader)} stands there");

    private long ReadShape(ref Utf8JsonReader reader, int index, List<long>? shape)
    {
        if (reader.TokenType != JsonTokenType.StartArray)
        {
            throw EntryError(index, reader.TokenStartIndex, $"its shape must be an array, but {Found(ref reader)} stands there");
        }

        long count = 1;
        while (reader.Read() && reader.TokenType != JsonTokenType.EndArray)
        {
            if (reader.TokenType != JsonTokenType.Number || !reader.TryGetInt64(out long extent) || extent < 0)
            {
                throw EntryError(index, reader.TokenStartIndex, $"an extent of its shape must be an integer from 0 to 2^63 - 1, but {Found(ref reader)} stands there");
            }

            shape?.Add(extent);
            if (Math.BigMul(count, extent, out count) is not 0 || count < 0)
            {
                throw EntryError(index, reader.TokenStartIndex, "its shape has more than 2^63 - 1 elements");
            }
        }

        return count;
    }

    private (long Begin, long End) ReadOffsets(ref Utf8JsonReader reader, int index)
    {
        Span<long> offsets = stackalloc long[2];
        long start = reader.TokenStartIndex;
        int found = 0;
        bool valid = reader.TokenType == JsonTokenType.StartArray;
        while (valid && reader.Read() && reader.TokenType != JsonTokenType.EndArray)
        {
            valid = found < 2 && reader.TokenType == JsonTokenType.Number && reader.TryGetInt64(out offsets[found]);
            found++;
        }

        if (!valid || found != 2 || offsets[0] < 0 || offsets[1] < offsets[0])
        {
            throw EntryError(index, start, "its data_offsets must be two integers with 0 <= begin <= end");
        }

        return offsets[1] <= dataLength
            ? (offsets[0], offsets[1])
            : throw EntryError(index, start, $"its data_offsets [{offsets[0]}, {offsets[1]}] reach beyond the {dataLength} data bytes that the file holds");
    }

    /// <summary>The byte ranges, in the order of their offsets, must follow one another from 0 to the end of the file.</summary>
    private void CheckCoverage()
    {
        int[]? order = null;
        for (int i = 1; i < records.Length && order is null; i++)
        {
            order = records[i].Begin < records[i - 1].End ? SortByOffset() : null;
        }

        long end = 0;
        for (int i = 0; i < records.Length; i++)
        {
            int index = order is null ? i : order[i];
            Record record = records[index];
            if (record.Begin != end)
            {
                throw EntryError(index, record.ObjectStart,
                    $"its data must begin at {end}, where the data before it ends, but data_offsets say {record.Begin} ({(record.Begin < end ? "an overlap" : "a hole")})");
            }

            end = record.End;
        }

        if (end != dataLength)
        {
            throw Error(json.Length + end, $"the tensors end after {end} bytes of data, but the file holds {dataLength}");
        }
    }

    private int[] SortByOffset()
    {
        var order = new int[records.Length];
        for (int i = 0; i < order.Length; i++)
        {
            order[i] = i;
        }

        order.AsSpan().Sort((left, right) =>
        {
            int comparison = records[left].Begin.CompareTo(records[right].Begin);
            comparison = comparison != 0 ? comparison : records[left].End.CompareTo(records[right].End);
            return comparison != 0 ? comparison : left.CompareTo(right);
        });
        return order;
    }

    private InvalidInputException EntryError(int index, long position, string what) => Error(position, $"tensor {Quote(names[index])}: {what}");

    private InvalidInputException Error(long headerPosition, string what)
        => new($"Cannot read safetensors file '{file}': at byte {LengthBytes + headerPosition}, {what}; the file is damaged or not safetensors: fetch or save it again.");

    private struct Record
    {
        public long Begin;
        public long End;
        public int ObjectStart;
        public SafetensorsType Type;
    }
}
