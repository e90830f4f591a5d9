using ExactFlow.Tensors.Autograd;

namespace ExactFlow.Tensors.Tests;

public sealed class StepTests : IDisposable
{
    private readonly CpuDevice device = new(1) { PoisonFreshMemory = true };

    public void Dispose()
    {
        Assert.Equal(0, device.Pool.RentedBlocks);
        device.Dispose();
    }

    [Fact]
    public void ReturnsEverythingAtItsEnd()
    {
        Tensor tensor;
        using (Step step = device.BeginStep())
        {
            tensor = device.Zeros([10, 10]);
            device.Empty([3]).Reshape([1, 3]);
            device.Zeros([5]).RequireGrad().GradForWrite(out _);
            Assert.Equal(4, device.Pool.RentedBlocks);
            Assert.Same(step, device.CurrentStep);
        }

        Assert.Null(device.CurrentStep);
        Assert.Equal(0, device.Pool.RentedBlocks);
        Assert.Contains("[10, 10]", Assert.Throws<ObjectDisposedException>(() => tensor.ToHost<float>()).Message, StringComparison.Ordinal);
        Assert.Throws<ObjectDisposedException>(() => tensor.Address);
    }

    [Fact]
    public void KeepsWhatItIsAskedToKeep()
    {
        Tensor kept;
        using (Step step = device.BeginStep())
        {
            kept = step.Keep(device.From<float>([1, 2], [2]));
        }

        Assert.Equal([1, 2], kept.ToHost<float>());
        kept.Dispose();
    }

    [Fact]
    public void GivesMemoryBackEarlyWhenATensorIsDisposed()
    {
        using Step step = device.BeginStep();
        Tensor tensor = device.Zeros([10]);
        tensor.Dispose();
        Assert.Equal(0, device.Pool.RentedBlocks);
    }

    [Fact]
    public void IsOneAtATime()
    {
        using (device.BeginStep())
        {
            Assert.Throws<InvalidOperationException>(() => device.BeginStep());
        }

        using Step again = device.BeginStep(recordGradients: false);
        Assert.False(again.RecordsGradients);
    }

    [Fact]
    public void IsNeededForTemporaryTensors()
        => Assert.Contains("BeginStep", Assert.Throws<InvalidOperationException>(() => device.Empty([1])).Message, StringComparison.Ordinal);

    [Fact]
    public void AsksTheSystemForNothingOnceSteady()
    {
        long allocations = 0;
        for (int i = 0; i < 5; i++)
        {
            using Step step = device.BeginStep();
            device.Zeros([100]);
            device.Zeros([100]);
            device.Zeros([3000]);
            allocations = i == 0 ? device.Pool.SystemAllocations : allocations;
        }

        Assert.Equal(3, allocations);
        Assert.Equal(allocations, device.Pool.SystemAllocations);
    }

    [Fact]
    public void EndsWithItsDevice()
    {
        var own = new CpuDevice(1);
        own.BeginStep();
        own.Zeros([4]);
        own.Dispose();
        Assert.Equal(0, own.Pool.RentedBlocks);
        Assert.Equal(0, own.Pool.ReservedBytes);
    }
}
