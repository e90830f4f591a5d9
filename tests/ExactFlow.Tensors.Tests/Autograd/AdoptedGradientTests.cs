using ExactFlow.Tensors.Autograd;

namespace ExactFlow.Tensors.Tests;

/// <summary>Gradients that were adopted instead of copied: shared as long as nobody adds to them.</summary>
public sealed class AdoptedGradientTests : IDisposable
{
    private readonly CpuDevice device = new(1) { PoisonFreshMemory = true };

    public void Dispose()
    {
        Assert.Equal(0, device.Pool.RentedBlocks);
        device.Dispose();
    }

    [Fact]
    public void TheTermsOfASumHoldTheSameMemory()
    {
        using Step step = device.BeginStep();
        Tensor a = device.Empty([2]).RequireGrad();
        Tensor b = device.Empty([2]).RequireGrad();
        Tensor computed = device.From<float>([1, 2], [2]);

        Assert.True(a.TryAdoptGrad(computed));
        Assert.True(b.TryAdoptGrad(computed));

        Assert.Equal(computed.Address, a.Grad!.Address);
        Assert.Equal(computed.Address, b.Grad!.Address);
    }

    [Fact]
    public void OneThatIsAddedToLeavesTheOthersAsTheyWere()
    {
        using Step step = device.BeginStep();
        Tensor a = device.Empty([2]).RequireGrad();
        Tensor b = device.Empty([2]).RequireGrad();
        Tensor computed = device.From<float>([1, 2], [2]);
        a.TryAdoptGrad(computed);
        b.TryAdoptGrad(computed);

        Tensor target = a.GradForWrite(out bool accumulate);
        Assert.True(accumulate);
        Assert.Equal([1f, 2f], target.ToHost<float>());
        target.Span<float>()[0] += 10;

        Assert.Equal([11f, 2f], a.Grad!.ToHost<float>());
        Assert.Equal([1f, 2f], b.Grad!.ToHost<float>());
        Assert.Equal(computed.Address, b.GradForWrite(out _).Address);
    }

    [Fact]
    public void TheLastHolderIsAddedToInPlace()
    {
        using Tensor x = device.Persistent([1]).RequireGrad();
        using Step step = device.BeginStep();
        Tensor kept = device.Empty([1]);
        Tensor released = device.Empty([1]);
        Tensor sum = device.Empty([1]);
        nint address = 0;
        step.Tape.Record(kept, () =>
        {
            Tensor gradient = kept.GradForWrite(out bool accumulate);
            Assert.True(accumulate);
            Assert.Equal(address, gradient.Address);
            x.GradForWrite(out _).CopyFrom(gradient);
        });
        step.Tape.Record(released, () => Assert.Equal([3f], released.Grad!.ToHost<float>()));
        step.Tape.Record(sum, () =>
        {
            address = sum.Grad!.Address;
            Assert.True(kept.TryAdoptGrad(sum.Grad!));
            Assert.True(released.TryAdoptGrad(sum.Grad!));
        });

        sum.Backward(device.From<float>([3], [1]));

        Assert.Equal([3f], x.Grad!.ToHost<float>());
    }

    [Fact]
    public void AParameterOrASecondGradientIsNotAdopted()
    {
        using Tensor parameter = device.Persistent([1]).RequireGrad();
        using Step step = device.BeginStep();
        Tensor x = device.Empty([1]).RequireGrad();
        Tensor computed = device.From<float>([3], [1]);

        Assert.False(parameter.TryAdoptGrad(computed));
        Assert.Null(parameter.Grad);
        Assert.True(x.TryAdoptGrad(computed));
        Assert.False(x.TryAdoptGrad(device.From<float>([4], [1])));
        Assert.Equal([3f], x.Grad!.ToHost<float>());
    }

    [Fact]
    public void AGradientInAnotherShapeEndsWithTheGradient()
    {
        using Step step = device.BeginStep();
        Tensor y = device.Empty([2, 3]);
        int whileHeld = 0;
        step.Tape.Record(y, () =>
        {
            whileHeld = device.Pool.RentedBlocks;
            Assert.Equal([1f, 1f, 1f, 1f, 1f, 1f], y.Grad!.ToHost<float>());
        });
        Tensor flat = y.Reshape([6]);
        Tensor sum = device.Empty([1]);
        step.Tape.Record(sum, () =>
        {
            flat.GradForWrite(out _).Span<float>().Fill(1);
            Assert.Equal(flat.Shape, flat.Grad!.Shape);
        });

        sum.Backward(device.From<float>([3], [1]));

        Assert.Equal(whileHeld - 1, device.Pool.RentedBlocks);
    }
}
