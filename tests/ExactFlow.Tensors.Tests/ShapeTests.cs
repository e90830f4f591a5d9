namespace ExactFlow.Tensors.Tests;

public sealed class ShapeTests
{
    [Fact]
    public void KnowsItsExtents()
    {
        Shape shape = [2, 3, 4];
        Assert.Equal(3, shape.Rank);
        Assert.Equal(24, shape.Count);
        Assert.Equal(6, shape.RowCount());
        Assert.Equal(2, shape[0]);
        Assert.Equal(4, shape[^1]);
        Assert.Equal([2, 3, 4], shape.ToArray());
        Assert.Equal("[2, 3, 4]", shape.ToString());
        Assert.Equal<Shape>([2, 3, 7], shape.WithLast(7));
        Assert.Equal<Shape>([9, 3, 4], shape.WithFirst(9));
    }

    [Fact]
    public void CountsAScalarAsOneAndAnEmptyOneAsNone()
    {
        Shape scalar = [];
        Shape empty = [3, 0];
        Assert.Equal(1, scalar.Count);
        Assert.Equal(1, scalar.RowCount());
        Assert.Equal(0, empty.Count);
    }

    [Fact]
    public void ComparesByValue()
    {
        Shape a = [2, 3];
        Shape b = [2, 3];
        Shape other = [3, 2];
        Shape longer = [2, 3, 1];
        Assert.True(a == b);
        Assert.Equal(a.GetHashCode(), b.GetHashCode());
        Assert.True(a != other);
        Assert.True(a != longer);
        Assert.False(a.Equals((object)"[2, 3]"));
    }

    [Fact]
    public void RefusesWhatIsNoShape()
    {
        Assert.Contains("at most 5", Assert.Throws<InvalidInputException>(() => Shape.Of([1, 1, 1, 1, 1, 1])).Message, StringComparison.Ordinal);
        Assert.Contains("Dimension 1", Assert.Throws<InvalidInputException>(() => Shape.Of([1, -1])).Message, StringComparison.Ordinal);
        Shape shape = [2, 3];
        Assert.Throws<ArgumentOutOfRangeException>(() => shape[2]);
        Assert.Throws<OverflowException>(() => Shape.Of([int.MaxValue, int.MaxValue, int.MaxValue]).Count);
    }
}
