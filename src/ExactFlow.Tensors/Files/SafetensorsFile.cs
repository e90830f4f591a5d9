using System.Buffers.Binary;
using System.Numerics;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace ExactFlow.Tensors.Files;

/// <summary>
/// Reads safetensors files: an 8-byte little-endian header length, a JSON header, tensor data. Opening checks the whole header (lengths, dtypes, offsets without
/// holes or overlap that end exactly at the file's end, no key twice) and reads no data; values stream from the file straight into the caller's memory.
/// </summary>
/// <remarks>
/// A hostile header gets an error, never an allocation of what it claims: opening allocates at most twice the file's size plus 1 MB. Safe for several threads.
/// Source of the format: the README of huggingface/safetensors.
/// </remarks>
public sealed class SafetensorsFile : IDisposable
{
    private const int ChunkBytes = 1 << 16;
    private readonly SafeFileHandle? handle;
    private readonly ReadOnlyMemory<byte> contents;
    private readonly SafetensorsHeader header;
    private SafetensorsEntry[]? entries;
    private Dictionary<string, string>? metadata;

    private SafetensorsFile(string path, SafeFileHandle? handle, ReadOnlyMemory<byte> contents)
    {
        Path = path;
        this.handle = handle;
        this.contents = contents;
        header = ReadHeader(handle is null ? contents.Length : RandomAccess.GetLength(handle));
    }

    /// <summary>The file's name, as in messages.</summary>
    public string Path { get; }

    /// <summary>Number of tensors.</summary>
    public int Count => header.Count;

    /// <summary>The tensors, in the order of the header.</summary>
    public IReadOnlyList<SafetensorsEntry> Entries
    {
        get
        {
            if (entries is null)
            {
                var all = new SafetensorsEntry[Count];
                for (int i = 0; i < all.Length; i++)
                {
                    all[i] = header[i];
                }

                entries = all;
            }

            return entries;
        }
    }

    /// <summary>The texts under <c>__metadata__</c>; empty if there are none.</summary>
    public IReadOnlyDictionary<string, string> Metadata => metadata ??= header.ReadMetadata();

    /// <summary>A tensor by name.</summary>
    /// <exception cref="InvalidInputException">There is none of that name; the message lists the first ones there are.</exception>
    public SafetensorsEntry this[string name] => Find(name) ?? throw new InvalidInputException(
        $"Safetensors file '{Path}' has no tensor '{name}'; it holds {Count}: {string.Join(", ", Entries.Take(20).Select(entry => entry.Name))}{(Count > 20 ? ", ..." : "")}.");

    /// <summary>Opens a file and checks its header.</summary>
    /// <exception cref="InvalidInputException">Missing, unreadable, truncated, damaged or hostile.</exception>
    public static SafetensorsFile Open(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        SafeFileHandle? handle = null;
        try
        {
            handle = File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete, FileOptions.SequentialScan);
            return new SafetensorsFile(path, handle, default);
        }
        catch (Exception exception)
        {
            handle?.Dispose();
            if (exception is not (IOException or UnauthorizedAccessException or NotSupportedException))
            {
                throw;
            }

            string why = exception is FileNotFoundException or DirectoryNotFoundException ? "it does not exist; check the name"
                : Directory.Exists(path) ? "it is a folder; name the .safetensors file in it"
                : exception is NotSupportedException ? "it is a pipe or device; copy it to a regular file first"
                : $"{exception.Message.TrimEnd('.')}; check its permissions and the disk";
            throw new InvalidInputException($"Cannot read safetensors file '{path}': {why}.", exception);
        }
    }

    /// <summary>Reads a file that is in memory already; the memory must not change while this object is used.</summary>
    /// <param name="contents">The file.</param>
    /// <param name="name">A name for messages.</param>
    /// <exception cref="InvalidInputException">Truncated, damaged or hostile.</exception>
    public static SafetensorsFile Parse(ReadOnlyMemory<byte> contents, string name = "(in memory)") => new(name, null, contents);

    /// <summary>A tensor by name, or null.</summary>
    public SafetensorsEntry? Find(string name)
    {
        int index = header.IndexOf(name);
        return index < 0 ? null : entries is null ? header[index] : entries[index];
    }

    /// <summary>Reads raw little-endian bytes of a tensor.</summary>
    /// <param name="entry">A tensor of this file.</param>
    /// <param name="start">First byte, counted from the tensor's first.</param>
    /// <param name="destination">Filled completely.</param>
    public void ReadBytes(SafetensorsEntry entry, long start, Span<byte> destination)
    {
        if (start < 0 || start > entry.ByteLength - destination.Length)
        {
            throw new ArgumentOutOfRangeException(nameof(start), $"Tensor '{entry.Name}' has {entry.ByteLength} bytes; {destination.Length} from {start} were asked for.");
        }

        ReadAt(entry.Offset + start, destination, entry.Name);
    }

    /// <summary>Reads all values of a tensor, converted as <see cref="Read{T}(SafetensorsEntry, Span{T}, long)"/> does.</summary>
    /// <param name="name">The tensor's name.</param>
    /// <exception cref="InvalidInputException">No such tensor, or not convertible.</exception>
    public T[] Read<T>(string name)
        where T : unmanaged, INumber<T>
    {
        SafetensorsEntry entry = this[name];
        if (entry.Count > Array.MaxLength)
        {
            throw new InvalidInputException($"Tensor '{name}' of '{Path}' has {entry.Count} elements, more than one array holds; read it in parts.");
        }

        var values = new T[entry.Count];
        Read(entry, values.AsSpan());
        return values;
    }

    /// <summary>
    /// Reads values of a tensor. Floats (F64, F32, F16, BF16) and integers become float or double, rounded to nearest; integers become int or long if they fit.
    /// Values stored as <typeparamref name="T"/> are read straight into <paramref name="destination"/>.
    /// </summary>
    /// <typeparam name="T">float, double, int or long.</typeparam>
    /// <param name="entry">A tensor of this file.</param>
    /// <param name="destination">Filled completely.</param>
    /// <param name="firstElement">The first element to read, row-major.</param>
    /// <exception cref="InvalidInputException">Floats were asked for as integers, an integer does not fit, or the dtype has no such conversion (8-bit floats, complex numbers).</exception>
    public void Read<T>(SafetensorsEntry entry, Span<T> destination, long firstElement = 0)
        where T : unmanaged, INumber<T>
    {
        int size = entry.Type.Size();
        if (SafetensorsConversion.IsStoredAs<T>(entry.Type))
        {
            ReadBytes(entry, firstElement * size, MemoryMarshal.AsBytes(destination));
            return;
        }

        Span<byte> chunk = stackalloc byte[ChunkBytes];
        while (!destination.IsEmpty)
        {
            int count = Math.Min(destination.Length, ChunkBytes / size);
            Span<byte> bytes = chunk[..(count * size)];
            ReadBytes(entry, firstElement * size, bytes);
            SafetensorsConversion.Convert(bytes, destination[..count], entry, Path);
            destination = destination[count..];
            firstElement += count;
        }
    }

    /// <summary>The file as memory, or null where it cannot be (<see cref="SafetensorsMapping"/>). The result is of its own: this object may be disposed before it.</summary>
    public SafetensorsMapping? TryMap() => handle is null ? null : SafetensorsMapping.TryMap(Path, handle);

    /// <inheritdoc/>
    public void Dispose() => handle?.Dispose();

    private SafetensorsHeader ReadHeader(long fileLength)
    {
        if (fileLength < SafetensorsHeader.LengthBytes + 2)
        {
            throw new InvalidInputException(
                $"Cannot read safetensors file '{Path}': expected at least {SafetensorsHeader.LengthBytes + 2} bytes, found {fileLength}; it is empty or cut off: fetch or save it again.");
        }

        Span<byte> prefix = stackalloc byte[SafetensorsHeader.LengthBytes];
        ReadAt(0, prefix, "header length");
        ulong length = BinaryPrimitives.ReadUInt64LittleEndian(prefix);
        long limit = Math.Min(SafetensorsHeader.MaximumBytes, fileLength - SafetensorsHeader.LengthBytes);
        if (length < 2 || length > (ulong)limit)
        {
            throw new InvalidInputException(
                $"Cannot read safetensors file '{Path}': at byte 0, expected a header length from 2 to {limit}, found {length}; the file is cut off or not safetensors: fetch or save it again.");
        }

        var json = new byte[(int)length];
        ReadAt(SafetensorsHeader.LengthBytes, json, "header");
        return new SafetensorsHeader(Path, json, fileLength - SafetensorsHeader.LengthBytes - (long)length);
    }

    private void ReadAt(long position, Span<byte> destination, string what)
    {
        if (handle is null)
        {
            contents.Span.Slice(checked((int)position), destination.Length).CopyTo(destination);
            return;
        }

        try
        {
            while (!destination.IsEmpty)
            {
                int read = RandomAccess.Read(handle, destination, position);
                if (read == 0)
                {
                    throw new InvalidInputException($"Cannot read '{what}' of safetensors file '{Path}': the file ended at byte {position}, it was cut off while it was read; fetch it again.");
                }

                destination = destination[read..];
                position += read;
            }
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new InvalidInputException($"Cannot read '{what}' of safetensors file '{Path}' at byte {position}: {exception.Message.TrimEnd('.')}; check the disk.", exception);
        }
    }
}
