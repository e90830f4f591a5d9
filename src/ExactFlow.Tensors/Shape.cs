using System.Runtime.CompilerServices;

namespace ExactFlow.Tensors;

/// <summary>The extents of a tensor, outermost first: up to five, stored inline. Written as a collection expression: <c>Shape s = [batch, time, heads, dim];</c></summary>
[CollectionBuilder(typeof(Shape), nameof(Of))]
public readonly struct Shape : IEquatable<Shape>
{
    /// <summary>The largest number of dimensions.</summary>
    public const int MaxRank = 5;

    private readonly Extents extents;

    private Shape(ReadOnlySpan<int> dimensions)
    {
        if (dimensions.Length > MaxRank)
        {
            throw new InvalidInputException($"A shape has at most {MaxRank} dimensions, but {dimensions.Length} were given.");
        }

        Rank = dimensions.Length;
        for (int i = 0; i < dimensions.Length; i++)
        {
            if (dimensions[i] < 0)
            {
                throw new InvalidInputException($"Dimension {i} of a shape is {dimensions[i]}; sizes must not be negative.");
            }

            extents[i] = dimensions[i];
        }
    }

    /// <summary>Number of dimensions; 0 for a scalar.</summary>
    public int Rank { get; }

    /// <summary>Number of elements (1 for a scalar).</summary>
    public long Count
    {
        get
        {
            long count = 1;
            for (int i = 0; i < Rank; i++)
            {
                count = checked(count * extents[i]);
            }

            return count;
        }
    }

    /// <summary>The extent of a dimension; <c>shape[^1]</c> is the innermost.</summary>
    public int this[Index dimension]
    {
        get
        {
            int offset = dimension.GetOffset(Rank);
            return (uint)offset < (uint)Rank
                ? extents[offset]
                : throw new ArgumentOutOfRangeException(nameof(dimension), $"Shape {this} has no dimension {dimension}.");
        }
    }

    /// <summary>Makes a shape of the given extents.</summary>
    /// <exception cref="InvalidInputException">More than <see cref="MaxRank"/> dimensions, or a negative one.</exception>
    public static Shape Of(ReadOnlySpan<int> dimensions) => new(dimensions);

    /// <summary>Equality of rank and every extent.</summary>
    public static bool operator ==(Shape left, Shape right) => left.Equals(right);

    /// <summary>Inequality of rank or some extent.</summary>
    public static bool operator !=(Shape left, Shape right) => !left.Equals(right);

    /// <summary>The product of all extents but the innermost: rows, when the tensor is seen as a matrix.</summary>
    public long RowCount()
    {
        long rows = 1;
        for (int i = 0; i + 1 < Rank; i++)
        {
            rows = checked(rows * extents[i]);
        }

        return rows;
    }

    /// <summary>This shape with its innermost extent replaced.</summary>
    public Shape WithLast(int extent)
    {
        Span<int> dimensions = stackalloc int[MaxRank];
        CopyTo(dimensions);
        dimensions[Rank - 1] = extent;
        return Of(dimensions[..Rank]);
    }

    /// <summary>This shape with its outermost extent replaced.</summary>
    public Shape WithFirst(int extent)
    {
        Span<int> dimensions = stackalloc int[MaxRank];
        CopyTo(dimensions);
        dimensions[0] = extent;
        return Of(dimensions[..Rank]);
    }

    /// <summary>Copies the extents to <paramref name="destination"/>.</summary>
    public void CopyTo(Span<int> destination)
    {
        for (int i = 0; i < Rank; i++)
        {
            destination[i] = extents[i];
        }
    }

    /// <summary>The extents as an array.</summary>
    public int[] ToArray()
    {
        var result = new int[Rank];
        CopyTo(result);
        return result;
    }

    /// <summary>Enumerates the extents, outermost first.</summary>
    public IEnumerator<int> GetEnumerator() => ((IEnumerable<int>)ToArray()).GetEnumerator();

    /// <inheritdoc/>
    public bool Equals(Shape other)
    {
        if (Rank != other.Rank)
        {
            return false;
        }

        for (int i = 0; i < Rank; i++)
        {
            if (extents[i] != other.extents[i])
            {
                return false;
            }
        }

        return true;
    }

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is Shape other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode()
    {
        HashCode hash = default;
        for (int i = 0; i < Rank; i++)
        {
            hash.Add(extents[i]);
        }

        return hash.ToHashCode();
    }

    /// <inheritdoc/>
    public override string ToString() => $"[{string.Join(", ", ToArray())}]";

    [InlineArray(MaxRank)]
    private struct Extents
    {
        private int first;
    }
}
