namespace ExactFlow.Tensors.Files;

/// <summary>Float32 tensors to and from files, whatever device they are on: from other devices than the CPU through host memory, a piece at a time.</summary>
public static class SafetensorsTensors
{
    private const int PieceLength = 1 << 22;

    /// <summary>Fills a tensor with all values of a file's entry, converted to float32.</summary>
    /// <param name="file">The file.</param>
    /// <param name="entry">An entry of as many elements.</param>
    /// <param name="destination">Float32, on any device.</param>
    public static void Read(this SafetensorsFile file, SafetensorsEntry entry, Tensor destination)
    {
        ArgumentNullException.ThrowIfNull(file);
        ArgumentNullException.ThrowIfNull(destination);
        if (destination.Device is CpuDevice)
        {
            file.Read(entry, destination.Span<float>());
            return;
        }

        var piece = new float[Math.Min(PieceLength, destination.Count)];
        for (long start = 0; start < destination.Count; start += piece.Length)
        {
            Span<float> values = piece.AsSpan(0, (int)Math.Min(piece.Length, destination.Count - start));
            file.Read(entry, values, start);
            destination.CopyFrom<float>(values, start);
        }
    }

    /// <summary>Writes all values of a tensor to its entry, as float32.</summary>
    /// <param name="writer">The file being written.</param>
    /// <param name="name">Name of the entry.</param>
    /// <param name="source">Float32, on any device.</param>
    public static void Write(this SafetensorsWriter writer, string name, Tensor source)
    {
        ArgumentNullException.ThrowIfNull(writer);
        ArgumentNullException.ThrowIfNull(source);
        if (source.Device is CpuDevice)
        {
            writer.Write<float>(name, source.Span<float>());
            return;
        }

        var piece = new float[Math.Min(PieceLength, source.Count)];
        for (long start = 0; start < source.Count; start += piece.Length)
        {
            Span<float> values = piece.AsSpan(0, (int)Math.Min(piece.Length, source.Count - start));
            source.CopyTo(values, start);
            writer.Write<float>(name, values);
        }
    }
}
