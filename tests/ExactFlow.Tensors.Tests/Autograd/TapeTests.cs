using ExactFlow.Tensors.Autograd;

namespace ExactFlow.Tensors.Tests;

/// <summary>Reverse differentiation of small graphs of a test operator, y = a x + b z, with gradients known by hand.</summary>
public sealed class TapeTests : IDisposable
{
    private readonly CpuDevice device = new(1) { PoisonFreshMemory = true };
    private int backwardCalls;

    public void Dispose()
    {
        Assert.Equal(0, device.Pool.RentedBlocks);
        device.Dispose();
    }

    [Fact]
    public void AddsTheGradientsOfAllUses()
    {
        using Tensor x = device.Persistent([1]).RequireGrad();
        x.CopyFrom<float>([2]);
        using Step step = device.BeginStep();
        Tensor y = Combine(x, 3, x, 4);
        Tensor z = Combine(y, 5, x, 1);
        Assert.Equal(72, z.Item());
        z.Backward();
        Assert.Equal([36], x.Grad!.ToHost<float>());
        Assert.Equal(2, backwardCalls);
        Assert.Equal(0, step.Tape.Count);
    }

    [Fact]
    public void AccumulatesOverStepsUntilCleared()
    {
        using Tensor x = device.Persistent([1]).RequireGrad();
        for (int i = 1; i <= 3; i++)
        {
            using Step step = device.BeginStep();
            Combine(x, 2, x, 0).Backward();
            Assert.Equal([2f * i], x.Grad!.ToHost<float>());
        }

        x.ClearGrad();
        Assert.Null(x.Grad);
        using Step last = device.BeginStep();
        Combine(x, 7, x, 0).Backward();
        Assert.Equal([7], x.Grad!.ToHost<float>());
    }

    [Fact]
    public void SkipsWhatDoesNotLeadToTheLoss()
    {
        using Tensor x = device.Persistent([1]).RequireGrad();
        using Step step = device.BeginStep();
        Combine(x, 100, x, 100);
        Combine(x, 1, x, 1).Backward();
        Assert.Equal([2], x.Grad!.ToHost<float>());
        Assert.Equal(1, backwardCalls);
    }

    [Fact]
    public void StartsFromGivenGradients()
    {
        using Tensor x = device.Persistent([2]).RequireGrad();
        using Step step = device.BeginStep();
        Tensor y = Combine(x, 3, x, 0);
        Tensor z = Combine(x, 5, x, 0);
        y.SeedGrad(device.From<float>([1, 10], [2]));
        z.Backward(device.From<float>([2, 20], [2]));
        Assert.Equal([13, 130], x.Grad!.ToHost<float>());
    }

    [Fact]
    public void CallsAnOperatorOfSeveralOutputsOnce()
    {
        using Tensor x = device.Persistent([1]).RequireGrad();
        using Step step = device.BeginStep();
        Tensor first = device.Zeros([1]);
        Tensor second = device.Zeros([1]);
        int calls = 0;
        step.Tape.Record(first, second, () =>
        {
            calls++;
            Assert.Null(first.Grad);
            x.GradForWrite(out _).CopyFrom(second.Grad!);
        });
        second.Backward(device.From<float>([6], [1]));
        Assert.Equal(1, calls);
        Assert.Equal([6], x.Grad!.ToHost<float>());
    }

    [Fact]
    public void ReleasesGradientsOnTheWay()
    {
        using Tensor x = device.Persistent([1000]).RequireGrad();
        using Step step = device.BeginStep();
        Tensor y = x;
        for (int i = 0; i < 20; i++)
        {
            y = Combine(y, 1, y, 0);
        }

        Tensor seed = device.Zeros([1000]);
        int blocks = device.Pool.RentedBlocks;
        device.Pool.ResetPeak();
        long before = device.Pool.RentedBytes;
        y.Backward(seed);
        Assert.True(device.Pool.PeakRentedBytes - before <= 3 * 4096, $"{device.Pool.PeakRentedBytes - before} bytes at the peak");
        Assert.Equal(blocks + 1, device.Pool.RentedBlocks);
    }

    [Fact]
    public void RefusesWhatIsNoLoss()
    {
        using Tensor x = device.Persistent([2]).RequireGrad();
        Assert.Throws<InvalidOperationException>(() => x.Backward());
        using Step step = device.BeginStep();
        Assert.Throws<InvalidInputException>(() => x.SeedGrad(device.Zeros([3])));
        x.SeedGrad(device.Zeros([2]));
        Assert.Throws<InvalidOperationException>(() => x.SeedGrad(device.Zeros([2])));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void TheOneThatItBeginsWithTakesMemoryWhenItIsUsed(bool isPersistent)
    {
        using Step step = device.BeginStep();
        Tensor[] losses = [.. Enumerable.Range(0, 3).Select(_ => isPersistent ? device.Persistent([]) : device.Zeros([]))];
        foreach (Tensor loss in losses)
        {
            loss.RequireGrad().Backward();
            Assert.True(loss.GradIsOne);
            Assert.Throws<InvalidOperationException>(loss.Backward);
            Assert.False(loss.TryAdoptGrad(device.Zeros([])));
        }

        Assert.Equal(1f, losses[0].Grad!.Item());
        Assert.False(losses[0].GradIsOne);
        Tensor added = losses[1].GradForWrite(out bool accumulate);
        Assert.True(accumulate);
        Assert.Equal(1f, added.Item());
        losses[2].ClearGrad();
        Assert.Null(losses[2].Grad);
        foreach (Tensor loss in losses.Where(_ => isPersistent))
        {
            loss.Dispose();
        }
    }

    /// <summary>y = a x + b z, with its gradient recorded.</summary>
    private Tensor Combine(Tensor x, float a, Tensor z, float b)
    {
        Tensor y = device.Empty(x.Shape);
        for (int i = 0; i < y.Count; i++)
        {
            y.Span<float>()[i] = (a * x.Span<float>()[i]) + (b * z.Span<float>()[i]);
        }

        device.CurrentStep!.Tape.Record(y, () =>
        {
            backwardCalls++;
            AddScaled(x, a, y.Grad!);
            AddScaled(z, b, y.Grad!);
        });
        return y;
    }

    private static void AddScaled(Tensor input, float factor, Tensor gradient)
    {
        Tensor target = input.GradForWrite(out bool accumulate);
        for (int i = 0; i < target.Count; i++)
        {
            float old = accumulate ? target.Span<float>()[i] : 0;
            target.Span<float>()[i] = old + (factor * gradient.Span<float>()[i]);
        }
    }
}
