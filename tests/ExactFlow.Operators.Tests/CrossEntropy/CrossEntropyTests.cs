using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;
using ExactFlow.Tensors.Randomness;

namespace ExactFlow.Operators.Tests;

/// <summary>What the case table of CrossEntropy cannot say: memory, wrong targets and shapes, numbers that are not finite.</summary>
public sealed class CrossEntropyTests
{
    [Fact]
    public void FullLogitsNeverExist()
    {
        const int Tokens = 4096;
        const int Dim = 4;
        const int Vocabulary = 1000;
        using var device = new CpuDevice(2) { PoisonFreshMemory = true };
        using Tensor hidden = Normal(device, [Tokens, Dim]).RequireGrad();
        using Tensor head = Normal(device, [Vocabulary, Dim]).RequireGrad();
        using Tensor targets = device.Persistent([Tokens], DType.Int32);
        device.Pool.ResetPeak();
        long before = device.Pool.PeakRentedBytes;

        using (Step step = device.BeginStep())
        {
            CrossEntropy.Apply(hidden, head, targets).Backward();
        }

        // 512 rows of logits and both gradients, with the pool's slack of a quarter.
        long expected = 4 * ((512 * Vocabulary) + (Dim * (Tokens + Vocabulary)));
        Assert.InRange(device.Pool.PeakRentedBytes - before, expected, (expected * 5 / 4) + 4096);
    }

    [Fact]
    public void EqualLogitsCostTheLogarithmOfTheVocabulary()
    {
        using var device = new CpuDevice(2);
        using Tensor head = Normal(device, [1001, 8]);
        using Step step = device.BeginStep(recordGradients: false);

        Tensor loss = CrossEntropy.Apply(device.Zeros([3, 8]), head, device.From<int>([0, 500, 1000], [3]));

        Assert.Equal(Math.Log(1001), loss.Item(), 1e-6);
    }

    [Theory]
    [InlineData(float.NaN)]
    [InlineData(float.PositiveInfinity)]
    public void ALossOfBadStatesIsNotFinite(float bad)
    {
        using var device = new CpuDevice(2);
        using Tensor head = Normal(device, [33, 4]);
        using Tensor hidden = Normal(device, [5, 4]);
        hidden.Span<float>()[9] = bad;
        using Step step = device.BeginStep(recordGradients: false);

        Assert.False(float.IsFinite(CrossEntropy.Apply(hidden, head, device.From<int>([0, 1, 2, 3, 4], [5])).Item()));
    }

    [Theory]
    [InlineData(33)]
    [InlineData(-1)]
    [InlineData(int.MinValue)]
    public void ATargetOutsideTheVocabularyIsNamed(int target)
    {
        using var device = new CpuDevice(2);
        using Tensor head = Normal(device, [33, 4]);
        using Tensor hidden = Normal(device, [2, 4]);
        using Step step = device.BeginStep();
        Tensor targets = device.From<int>([0, target], [2]);

        string message = Assert.Throws<InvalidInputException>(() => CrossEntropy.Apply(hidden, head, targets)).Message;
        Assert.Contains($"target 1 is {target}", message, StringComparison.Ordinal);
        Assert.Throws<InvalidInputException>(() => CrossEntropy.PerToken(hidden, head, targets));
    }

    [Fact]
    public void ShapesThatDoNotFitAreNamed()
    {
        using var device = new CpuDevice(2);
        using Tensor head = Normal(device, [33, 4]);
        using Tensor hidden = Normal(device, [2, 5]);
        using Step step = device.BeginStep();
        Tensor targets = device.From<int>([0, 1, 2], [3]);

        string widths = Assert.Throws<InvalidInputException>(() => CrossEntropy.Apply(hidden, head, targets)).Message;
        string counts = Assert.Throws<InvalidInputException>(() => CrossEntropy.Apply(Normal(device, [2, 4]), head, targets)).Message;
        Assert.Contains("[2, 5]", widths, StringComparison.Ordinal);
        Assert.Contains("[33, 4]", widths, StringComparison.Ordinal);
        Assert.Contains("[3]", counts, StringComparison.Ordinal);
        Assert.Throws<InvalidInputException>(() => CrossEntropy.Apply(Normal(device, [3, 4]), head, Normal(device, [3])));
    }

    private static Tensor Normal(Device device, Shape shape)
    {
        Tensor tensor = device.Persistent(shape);
        new Philox(1, (ulong)shape.Count).FillNormal(tensor.Span<float>(), 1);
        return tensor;
    }
}
