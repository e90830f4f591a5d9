namespace ExactFlow.Tensors.Files;

/// <summary>One tensor of a safetensors file.</summary>
/// <param name="Name">Its name, such as <c>model.layers.0.attn.q_proj.weight</c>.</param>
/// <param name="Type">Its number format.</param>
/// <param name="Shape">Its extents, outermost first; empty for a scalar. Any number of dimensions.</param>
public sealed record SafetensorsEntry(string Name, SafetensorsType Type, IReadOnlyList<long> Shape)
{
    /// <summary>Where its bytes begin, counted from the start of the file.</summary>
    public long Offset { get; init; }

    /// <summary>Number of elements (1 for a scalar, 0 if any extent is 0).</summary>
    /// <exception cref="OverflowException">More than 2^63 - 1.</exception>
    public long Count
    {
        get
        {
            long count = 1;
            foreach (long extent in Shape)
            {
                count = checked(count * extent);
            }

            return count;
        }
    }

    /// <summary>Bytes of all elements.</summary>
    public long ByteLength => checked(Count * Type.Size());

    /// <summary>Its extents as a tensor's shape.</summary>
    /// <exception cref="InvalidInputException">More dimensions than a tensor has, or an extent beyond 2^31 - 1.</exception>
    public Shape ToTensorShape()
    {
        Span<int> extents = stackalloc int[Tensors.Shape.MaxRank];
        bool fits = Shape.Count <= extents.Length;
        for (int i = 0; i < Shape.Count && fits; i++)
        {
            fits = Shape[i] <= int.MaxValue;
            extents[i] = fits ? (int)Shape[i] : 0;
        }

        return fits
            ? Tensors.Shape.Of(extents[..Shape.Count])
            : throw new InvalidInputException(
                $"Tensor '{Name}' has shape {DescribeShape()}, but a tensor here has at most {Tensors.Shape.MaxRank} dimensions of at most {int.MaxValue}; reshape it before saving.");
    }

    /// <inheritdoc/>
    public override string ToString() => $"{Name}: {Type.FileName()} {DescribeShape()}";

    private string DescribeShape() => $"[{string.Join(", ", Shape)}]";
}
