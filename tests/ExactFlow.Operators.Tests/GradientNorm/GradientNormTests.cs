using ExactFlow.Tensors;
using ExactFlow.Tensors.Randomness;

namespace ExactFlow.Operators.Tests;

/// <summary>What the case table of GradientNorm cannot say: numbers that are not finite, the clip factor, missing gradients.</summary>
public sealed class GradientNormTests
{
    [Theory]
    [InlineData(0, float.NaN)]
    [InlineData(16_383, float.PositiveInfinity)]
    [InlineData(16_384, float.NegativeInfinity)]
    [InlineData(20_002, float.NaN)]
    public void OneBadElementAnywhereShows(int position, float bad)
    {
        using var device = new CpuDevice(2);
        using var parameter = WithGradient(device, 20_003);
        Assert.True(double.IsFinite(GradientNorm.Compute([parameter])));

        parameter.Value.Grad!.Span<float>()[position] = bad;

        Assert.False(double.IsFinite(GradientNorm.Compute([parameter])));
    }

    [Fact]
    public void TheLargestFloatsAreFinite()
    {
        using var device = new CpuDevice(2);
        using var parameter = WithGradient(device, 1000);
        parameter.Value.Grad!.Span<float>().Fill(float.MaxValue);

        Assert.Equal(Math.Sqrt(1000) * float.MaxValue, GradientNorm.Compute([parameter]), 1e26);
    }

    [Fact]
    public void MissingGradientsCountAsZero()
    {
        using var device = new CpuDevice(2);
        using var with = WithGradient(device, 3);
        using var without = new Parameter("without", device.Persistent([3]), weightDecay: false);
        with.Value.Grad!.CopyFrom<float>([2, 3, 6]);

        Assert.Equal(7, GradientNorm.Compute([without, with]), 1e-15);
        Assert.Equal(0, GradientNorm.Compute([without]));
        Assert.Equal(0, GradientNorm.Compute([]));
    }

    [Fact]
    public void TheBitsDoNotDependOnThreads()
    {
        using var one = new CpuDevice(1);
        using var three = new CpuDevice(3);
        using var alone = WithGradient(one, 100_001);
        using var shared = WithGradient(three, 100_001);

        Assert.Equal(GradientNorm.Compute([alone]), GradientNorm.Compute([shared]));
    }

    [Theory]
    [InlineData(0.5, 1, 1)]
    [InlineData(1, 1, 1)]
    [InlineData(4, 1, 0.25)]
    [InlineData(4, 0, 1)]
    [InlineData(0, 1, 1)]
    public void TheClipFactorBringsTheNormDown(double norm, double maximum, float expected) => Assert.Equal(expected, GradientNorm.ClipFactor(norm, maximum));

    [Theory]
    [InlineData(double.NaN)]
    [InlineData(double.PositiveInfinity)]
    public void TheClipFactorOfNoFiniteNormIsNone(double norm) => Assert.True(float.IsNaN(GradientNorm.ClipFactor(norm, 1)));

    private static Parameter WithGradient(Device device, int size)
    {
        var parameter = new Parameter("p", device.Persistent([size]), weightDecay: false);
        new Philox(5, 6).FillNormal(parameter.Value.GradForWrite(out _).Span<float>(), 1);
        return parameter;
    }
}
