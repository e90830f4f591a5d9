using ExactFlow.Tensors.Autograd;

namespace ExactFlow.Tensors.Tests;

public sealed unsafe class TensorTests : IDisposable
{
    private readonly CpuDevice device = new(1) { PoisonFreshMemory = true };

    public void Dispose()
    {
        Assert.Equal(0, device.Pool.RentedBlocks);
        device.Dispose();
    }

    [Fact]
    public void HoldsWhatWasCopiedIn()
    {
        using Step step = device.BeginStep();
        Tensor floats = device.From<float>([1, 2, 3, 4, 5, 6], [2, 3]);
        Tensor integers = device.From<int>([7, 8], [2]);
        Tensor doubles = device.From<double>([0.1], []);
        Assert.Equal([1, 2, 3, 4, 5, 6], floats.ToHost<float>());
        Assert.Equal([7, 8], integers.ToHost<int>());
        Assert.Equal([0.1], doubles.ToHost<double>());
        Assert.Equal(24, floats.ByteCount);
        Assert.Equal(5, floats.Floats[4]);
        Assert.Equal(0, floats.Address % 64);
        floats.Span<float>()[4] = 9;
        Assert.Equal(9, floats.ToHost<float>()[4]);
        Tensor copy = device.Empty([6]);
        copy.CopyFrom(floats);
        Assert.Equal(floats.ToHost<float>(), copy.ToHost<float>());
        copy.Zero();
        Assert.All(copy.ToHost<float>(), value => Assert.Equal(0, value));
    }

    [Fact]
    public void StartsUndefinedOrZeroAsAsked()
    {
        using Step step = device.BeginStep();
        Assert.All(device.Empty([100]).ToHost<float>(), value => Assert.True(float.IsNaN(value)));
        Assert.All(device.Zeros([100]).ToHost<float>(), value => Assert.Equal(0, value));
        using Tensor persistent = device.Persistent([100]);
        Assert.All(persistent.ToHost<float>(), value => Assert.Equal(0, value));
    }

    [Fact]
    public void RefusesWhatDoesNotFit()
    {
        using Step step = device.BeginStep();
        Tensor tensor = device.Zeros([2, 3]);
        Assert.Contains("[2, 3]", Assert.Throws<InvalidInputException>(() => tensor.CopyFrom<float>([1, 2])).Message, StringComparison.Ordinal);
        Assert.Throws<InvalidInputException>(() => tensor.CopyFrom<int>([1, 2, 3, 4, 5, 6]));
        Assert.Throws<InvalidInputException>(() => tensor.CopyFrom(device.Zeros([2, 2])));
        Assert.Throws<InvalidInputException>(() => tensor.CopyTo<float>(new float[5]));
        Assert.Throws<InvalidInputException>(() => tensor.ToHost<int>());
        Assert.Throws<InvalidOperationException>(() => tensor.Span<int>().Length);
        Assert.Contains("[7]", Assert.Throws<InvalidInputException>(() => tensor.Reshape([7])).Message, StringComparison.Ordinal);
        Assert.Throws<NotSupportedException>(() => device.From<long>([1], [1]));
    }

    [Fact]
    public void AParametersGradientOutlivesTheStepInWhichAViewOfItWroteIt()
    {
        using var device = new CpuDevice(1);
        using (Tensor parameter = device.Persistent([6]).RequireGrad())
        {
            using (device.BeginStep())
            {
                parameter.Reshape([2, 3]).GradForWrite(out _).Span<float>().Fill(3);
            }

            Assert.Equal([3, 3, 3, 3, 3, 3], parameter.Grad!.ToHost<float>());
        }

        Assert.Equal(0, device.Pool.RentedBlocks);
    }

    [Fact]
    public void SharesMemoryAndGradientWithItsViews()
    {
        using Step step = device.BeginStep();
        Tensor tensor = device.From<float>([1, 2, 3, 4], [4]).RequireGrad();
        Tensor view = tensor.Reshape([2, 2]);
        Assert.Same(tensor, tensor.Reshape([4]));
        view.Floats[3] = 8;
        Assert.Equal(8, tensor.Floats[3]);
        Assert.True(view.RequiresGrad);

        Tensor gradient = view.GradForWrite(out bool accumulate);
        Assert.False(accumulate);
        Assert.Equal(view.Shape, gradient.Shape);
        gradient.CopyFrom<float>([1, 1, 1, 1]);
        Tensor again = tensor.GradForWrite(out accumulate);
        Assert.True(accumulate);
        Assert.Equal(tensor.Shape, again.Shape);
        Assert.Equal([1, 1, 1, 1], tensor.Grad!.ToHost<float>());
        tensor.ClearGrad();
        Assert.Null(view.Grad);
    }

    [Fact]
    public void KeepsTheMemoryOfAViewWhoseOwnerIsGone()
    {
        Tensor owner = device.Persistent([4]);
        Tensor view = owner.Reshape([2, 2]);
        owner.Dispose();
        Assert.Equal(1, device.Pool.RentedBlocks);
        view.Floats[0] = 3;
        view.Dispose();
        Assert.Equal(0, device.Pool.RentedBlocks);
    }

    [Fact]
    public void GivesBackItsGradientWhenDisposed()
    {
        Tensor tensor = device.Persistent([4]).RequireGrad();
        tensor.GradForWrite(out _).Zero();
        Assert.Equal(2, device.Pool.RentedBlocks);
        tensor.Dispose();
        tensor.Dispose();
        Assert.Equal(0, device.Pool.RentedBlocks);
        Assert.Throws<ObjectDisposedException>(() => tensor.Address);
    }

    [Fact]
    public void RefusesAGradientNobodyAskedFor()
    {
        using Step step = device.BeginStep();
        Assert.Throws<InvalidOperationException>(() => device.Zeros([1]).GradForWrite(out _));
    }
}
