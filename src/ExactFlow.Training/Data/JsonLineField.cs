using System.Buffers;
using System.Text;
using System.Text.Json;
using ExactFlow.Tensors;

namespace ExactFlow.Training.Data;

/// <summary>Takes the text of one field out of lines of JSON. For one thread.</summary>
public sealed class JsonLineField : IDisposable
{
    private readonly byte[] name;
    private readonly string field;
    private byte[] text = ArrayPool<byte>.Shared.Rent(1 << 16);

    /// <summary>A field by name.</summary>
    public JsonLineField(string field)
    {
        this.field = field ?? throw new ArgumentNullException(nameof(field));
        name = Encoding.UTF8.GetBytes(field);
    }

    /// <summary>The field's text as UTF-8, valid until the next call; empty for a blank line.</summary>
    /// <param name="line">The line, with or without its line feed.</param>
    /// <param name="path">The file, for messages.</param>
    /// <param name="number">The line's number, from 1, for messages.</param>
    /// <exception cref="InvalidInputException">The line is no JSON object, or has no such field, or the field is no text.</exception>
    public ReadOnlySpan<byte> Read(ReadOnlySpan<byte> line, string path, long number)
    {
        line = line.Trim(" \t\r\n"u8);
        if (line.IsEmpty)
        {
            return default;
        }

        try
        {
            return Find(line, path, number);
        }
        catch (JsonException exception)
        {
            throw new InvalidInputException($"Cannot read '{path}': line {number} is not valid JSON (byte {exception.BytePositionInLine}); every line must be one object.", exception);
        }
        catch (InvalidOperationException exception)
        {
            throw new InvalidInputException($"Cannot read '{path}': line {number} holds bytes that are no UTF-8, or half of a surrogate pair, in field '{field}'; repair that line.", exception);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => ArrayPool<byte>.Shared.Return(text);

    private ReadOnlySpan<byte> Find(ReadOnlySpan<byte> line, string path, long number)
    {
        Utf8JsonReader reader = new(line);
        reader.Read();
        if (reader.TokenType != JsonTokenType.StartObject)
        {
            throw new InvalidInputException($"Cannot read '{path}': line {number} must be a JSON object with the field '{field}', but it is {Word(reader.TokenType)}; every line must be one object.");
        }

        int length = -1;
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            bool isWanted = reader.ValueTextEquals(name);
            reader.Read();
            if (isWanted)
            {
                if (reader.TokenType != JsonTokenType.String)
                {
                    throw new InvalidInputException($"Cannot read '{path}': in line {number}, field '{field}' must be a text, but it is {Word(reader.TokenType)}; choose another field.");
                }

                length = Copy(ref reader);
            }

            reader.Skip();
        }

        // Whatever follows the object makes the line invalid.
        reader.Read();
        return length >= 0 ? text.AsSpan(0, length) : throw Missing(line, path, number);
    }

    private int Copy(ref Utf8JsonReader reader)
    {
        if (reader.ValueSpan.Length > text.Length)
        {
            ArrayPool<byte>.Shared.Return(text);
            text = ArrayPool<byte>.Shared.Rent(reader.ValueSpan.Length);
        }

        return reader.CopyString(text);
    }

    private InvalidInputException Missing(ReadOnlySpan<byte> line, string path, long number)
    {
        using JsonDocument document = JsonDocument.Parse(line.ToArray());
        string[] fields = [.. document.RootElement.EnumerateObject().Select(property => property.Name).Take(20)];
        string found = fields.Length == 0 ? "none" : string.Join(", ", fields.Select(other => $"'{other}'"));
        return new InvalidInputException($"Cannot read '{path}': line {number} has no field '{field}'; its fields are {found}: choose one of them (--field, or data.field in a recipe).");
    }

    private static string Word(JsonTokenType type) => type switch
    {
        JsonTokenType.String => "a text",
        JsonTokenType.Number => "a number",
        JsonTokenType.True or JsonTokenType.False => "true or false",
        JsonTokenType.Null => "null",
        JsonTokenType.StartArray => "a list",
        _ => "an object",
    };
}
