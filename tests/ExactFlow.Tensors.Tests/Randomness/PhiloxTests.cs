using ExactFlow.Tensors.Randomness;

namespace ExactFlow.Tensors.Tests;

/// <summary>The published known answers of Philox4x32-10, and the moments of what is made from it.</summary>
public sealed class PhiloxTests
{
    [Theory]
    [InlineData(new uint[] { 0, 0, 0, 0 }, new uint[] { 0, 0 }, new uint[] { 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 })]
    [InlineData(new[] { uint.MaxValue, uint.MaxValue, uint.MaxValue, uint.MaxValue }, new[] { uint.MaxValue, uint.MaxValue }, new uint[] { 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd })]
    [InlineData(new uint[] { 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344 }, new uint[] { 0xa4093822, 0x299f31d0 }, new uint[] { 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1 })]
    public void GivesTheKnownAnswers(uint[] counter, uint[] key, uint[] expected)
    {
        (uint word0, uint word1, uint word2, uint word3) = Philox.Block(counter[0], counter[1], counter[2], counter[3], key[0], key[1]);
        Assert.Equal(expected, new[] { word0, word1, word2, word3 });
    }

    [Fact]
    public void MakesUniformNumbersOfTheRightMoments()
    {
        const int Count = 200_000;
        var philox = new Philox(3, 5);
        double[] values = [.. Enumerable.Range(0, Count).Select(i => philox.Uniform((ulong)i))];
        Assert.All(values, value => Assert.InRange(value, 0, 1 - Math.Pow(2, -53)));

        // Five standard errors: sqrt(1/12 / n) for the mean, sqrt((1/80 - 1/144) / n) for the mean square deviation.
        Assert.InRange(values.Average(), 0.5 - (5 * Math.Sqrt(1.0 / 12 / Count)), 0.5 + (5 * Math.Sqrt(1.0 / 12 / Count)));
        double variance = values.Average(value => (value - 0.5) * (value - 0.5));
        double error = Math.Sqrt(((1.0 / 80) - (1.0 / 144)) / Count);
        Assert.InRange(variance, (1.0 / 12) - (5 * error), (1.0 / 12) + (5 * error));
        Assert.InRange(values.Zip(values.Skip(1), (x, y) => (x - 0.5) * (y - 0.5)).Average() * 12, -5 / Math.Sqrt(Count), 5 / Math.Sqrt(Count));
    }

    [Fact]
    public void MakesNormalNumbersOfTheRightMoments()
    {
        const int Count = 200_000;
        var values = new float[Count];
        new Philox(9, 1).FillNormal(values, 2);
        double[] scaled = [.. values.Select(value => value / 2.0)];
        Assert.InRange(scaled.Average(), -5 / Math.Sqrt(Count), 5 / Math.Sqrt(Count));
        Assert.InRange(scaled.Average(x => x * x), 1 - (5 * Math.Sqrt(2.0 / Count)), 1 + (5 * Math.Sqrt(2.0 / Count)));
        Assert.InRange(scaled.Average(x => x * x * x * x), 3 - (5 * Math.Sqrt(96.0 / Count)), 3 + (5 * Math.Sqrt(96.0 / Count)));

        // P(|x| > 3) = 0.0026998.
        double tail = scaled.Count(x => Math.Abs(x) > 3) / (double)Count;
        Assert.InRange(tail, 0.0026998 - (5 * Math.Sqrt(0.0026998 / Count)), 0.0026998 + (5 * Math.Sqrt(0.0026998 / Count)));
    }

    [Fact]
    public void DependsOnSeedStreamAndPositionOnly()
    {
        Assert.Equal(new Philox(1, 2).Bits(3), new Philox(1, 2).Bits(3));
        ulong[] others = [new Philox(1, 2).Bits(4), new Philox(1, 3).Bits(3), new Philox(2, 2).Bits(3), new Philox(1UL << 40, 2).Bits(3), new Philox(1, 2).Bits(3UL << 32)];
        Assert.DoesNotContain(new Philox(1, 2).Bits(3), others);
        Assert.Equal(others.Length, others.Distinct().Count());
        Assert.NotEqual(Philox.StreamOf("layers.0.weight"), Philox.StreamOf("layers.1.weight"));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(7)]
    [InlineData(int.MaxValue)]
    public void DrawsIntegersBelowALimit(int limit)
    {
        var philox = new Philox(4, 4);
        int[] drawn = [.. Enumerable.Range(0, 7000).Select(i => philox.Below((ulong)i, limit))];
        Assert.All(drawn, value => Assert.InRange(value, 0, limit - 1));
        if (limit == 7)
        {
            // Binomial with p = 1/7: mean 1000, standard deviation 29.3.
            Assert.All(drawn.CountBy(value => value), pair => Assert.InRange(pair.Value, 1000 - 147, 1000 + 147));
        }
    }
}
