using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;

namespace ExactFlow.Operators.Tests;

/// <summary>What the case table of Linear cannot say: wrong shapes, dtypes and devices.</summary>
public sealed class LinearTests
{
    [Fact]
    public void WrongArgumentsAreNamed()
    {
        using var device = new CpuDevice(1);
        using var other = new CpuDevice(1);
        using Step step = device.BeginStep();
        using Step otherStep = other.BeginStep();
        Tensor x = device.Zeros([2, 3]);
        Tensor weight = device.Zeros([5, 3]);

        string widths = Assert.Throws<InvalidInputException>(() => Linear.Apply(x, device.Zeros([5, 4]))).Message;
        string bias = Assert.Throws<InvalidInputException>(() => Linear.Apply(x, weight, device.Zeros([4]))).Message;
        string type = Assert.Throws<InvalidInputException>(() => Linear.Apply(device.Zeros([2, 3], DType.Int32), weight)).Message;
        string devices = Assert.Throws<InvalidInputException>(() => Linear.Apply(x, other.Zeros([5, 3]))).Message;
        Assert.Contains("[2, 3]", widths, StringComparison.Ordinal);
        Assert.Contains("[5, 4]", widths, StringComparison.Ordinal);
        Assert.Contains("[4]", bias, StringComparison.Ordinal);
        Assert.Contains("Int32", type, StringComparison.Ordinal);
        Assert.Contains("device", devices, StringComparison.Ordinal);
    }
}
