namespace ExactFlow.Tensors.Tests;

public sealed class TensorSliceTests
{
    [Fact]
    public void A_slice_shares_the_rows_it_names()
    {
        using var device = new CpuDevice(1);
        using (device.BeginStep())
        {
            Tensor whole = device.From<float>([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], [3, 2, 2]);
            Tensor rows = whole.Slice(1, 2);
            Assert.Equal<Shape>([2, 2, 2], rows.Shape);
            Assert.Equal([4, 5, 6, 7, 8, 9, 10, 11], rows.ToHost<float>());
            rows.Slice(1, 1).CopyFrom<float>([-1, -2, -3, -4]);
            Assert.Equal([0, 1, 2, 3, 4, 5, 6, 7, -1, -2, -3, -4], whole.ToHost<float>());
            Assert.Equal([-1, -2], rows.Slice(1, 1).Reshape([2, 2]).Slice(0, 1).ToHost<float>());
            Assert.False(rows.RequiresGrad);
        }

        Assert.Equal(0, device.Pool.RentedBlocks);
    }

    [Theory]
    [InlineData(-1, 1)]
    [InlineData(0, 4)]
    [InlineData(3, 1)]
    [InlineData(1, -1)]
    [InlineData(int.MaxValue, 1)]
    public void A_slice_outside_is_refused(int start, int count)
    {
        using var device = new CpuDevice(1);
        using var step = device.BeginStep();
        Tensor whole = device.Zeros([3, 2]);
        var error = Assert.Throws<InvalidInputException>(() => whole.Slice(start, count));
        Assert.Contains("[3, 2]", error.Message, StringComparison.Ordinal);
    }
}
