using ExactFlow.Tensors.Simd;
using ExactFlow.Testing;

namespace ExactFlow.Tensors.Tests;

/// <summary>The choice of the level, and the vector tests again at every level in child processes.</summary>
public sealed class SimdLevelTests
{
    public static TheoryData<int> Settings => [.. Enumerable.Range(0, SimdSetting.ForThisMachine.Count)];

    [Theory]
    [MemberData(nameof(Settings))]
    public void PassesAtEveryLevelInAChild(int setting)
        => SimdChild.Run(
            typeof(SimdLevelTests).Assembly,
            SimdSetting.ForThisMachine[setting],
            typeof(SimdReportTests).FullName!,
            typeof(FloatVectorTests).FullName!,
            typeof(SimdMathTests).FullName!,
            typeof(ElementwiseLoopTests).FullName!,
            typeof(MatrixMultiplyTests).FullName!,
            typeof(TileProductTests).FullName!);

    [Theory]
    [InlineData(null, SimdLevel.V256, SimdLevel.V256)]
    [InlineData("", SimdLevel.V512, SimdLevel.V512)]
    [InlineData("scalar", SimdLevel.V512, SimdLevel.Scalar)]
    [InlineData("128", SimdLevel.V512, SimdLevel.V128)]
    [InlineData("256", SimdLevel.V256, SimdLevel.V256)]
    [InlineData("512", SimdLevel.V512, SimdLevel.V512)]
    public void HonoursWhatIsAskedFor(string? request, SimdLevel available, SimdLevel expected)
    {
        (SimdLevel level, string? complaint) = ExactFlow.Tensors.Simd.Simd.Decide(request, available);
        Assert.Null(complaint);
        Assert.Equal(expected, level);
    }

    [Theory]
    [InlineData("512", SimdLevel.V256, "the widest here: 256")]
    [InlineData("128", SimdLevel.Scalar, "the widest here: scalar")]
    [InlineData("1024", SimdLevel.V512, "must be scalar, 128, 256 or 512")]
    [InlineData("avx", SimdLevel.V512, "\"avx\"")]
    public void RefusesWhatIsNotThere(string request, SimdLevel available, string part)
    {
        (_, string? complaint) = ExactFlow.Tensors.Simd.Simd.Decide(request, available);
        Assert.Contains(part, complaint, StringComparison.Ordinal);
    }
}

/// <summary>Tells the parent of a child process which level it got.</summary>
public sealed class SimdReportTests
{
    [Fact]
    public void ReportsTheLevel() => SimdChild.ReportLevel();
}
