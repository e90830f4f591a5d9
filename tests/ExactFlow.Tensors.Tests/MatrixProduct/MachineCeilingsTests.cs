using ExactFlow.Tensors.MatrixProduct;
using ExactFlow.Tensors.Parallel;

namespace ExactFlow.Tensors.Tests;

/// <summary>The figures are plausible and the reading loop reads everything; how fast is not asserted.</summary>
public sealed unsafe class MachineCeilingsTests
{
    [Fact]
    public void MeasuresPositiveFiniteRates()
    {
        using var workers = new WorkerPool(2);
        MachineCeilings ceilings = MachineCeilings.Measure(workers);
        Assert.Equal(2, ceilings.Threads);
        Assert.All([ceilings.MatrixProductGigaflops, ceilings.CopyGigabytesPerSecond, ceilings.ReadGigabytesPerSecond], rate => Assert.InRange(rate, 0.01, 1e6));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(63)]
    [InlineData(262_145)]
    [InlineData(1_000_003)]
    public void ReadsEveryElement(int count)
    {
        using var workers = new WorkerPool(3);
        var values = new float[count];
        foreach (int position in (int[])[0, count / 3, count / 2, count - 1])
        {
            Array.Fill(values, -2);
            values[position] = 5;
            fixed (float* source = values)
            {
                Assert.Equal(5, MachineCeilings.Read(workers, source, count));
            }
        }
    }

    [Theory]
    [InlineData("48K\\n", 48 << 10)]
    [InlineData("32768K", 32 << 20)]
    [InlineData("1M", 1 << 20)]
    [InlineData("512", 512)]
    [InlineData("", null)]
    [InlineData("-1K", null)]
    [InlineData("99999999999K", null)]
    [InlineData("9999999K", null)]
    [InlineData("many", null)]
    public void ParsesCacheSizes(string text, int? expected) => Assert.Equal(expected, CacheSizes.Parse(text.Replace("\\n", "\n")));
}
