using ExactFlow.Tensors.Memory;

namespace ExactFlow.Tensors.Tests;

public sealed unsafe class BufferPoolTests
{
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(64)]
    [InlineData(65)]
    [InlineData(1000)]
    [InlineData(1025)]
    [InlineData(100_000)]
    [InlineData((1 << 20) + 1)]
    public void HandsOutEnoughWithLittleSlack(long bytes)
    {
        using var device = new CpuDevice(1);
        DeviceBuffer buffer = device.Pool.Rent(bytes);
        Assert.InRange(buffer.Capacity, Math.Max(bytes, 64), Math.Max(64 + bytes, bytes * 5 / 4));
        Assert.Equal(0, buffer.Address % 64);
        Assert.Equal(buffer.Capacity, device.Pool.RentedBytes);
        device.Pool.Return(buffer);
        Assert.Equal(0, device.Pool.RentedBytes);
        Assert.Equal(buffer.Capacity, device.Pool.ReservedBytes);
    }

    [Fact]
    public void ReusesWhatWasReturned()
    {
        using var device = new CpuDevice(1);
        DeviceBuffer first = device.Pool.Rent(1000);
        device.Pool.Return(first);
        Assert.Same(first, device.Pool.Rent(990));
        DeviceBuffer second = device.Pool.Rent(1000);
        Assert.NotSame(first, second);
        Assert.Equal(2, device.Pool.SystemAllocations);
        Assert.Equal(2, device.Pool.RentedBlocks);
        device.Pool.Return(first);
        device.Pool.Return(second);
        device.Pool.Trim();
        Assert.Equal(0, device.Pool.ReservedBytes);
    }

    [Fact]
    public void RefusesASecondReturn()
    {
        using var device = new CpuDevice(1);
        DeviceBuffer buffer = device.Pool.Rent(10);
        device.Pool.Return(buffer);
        Assert.Throws<InvalidOperationException>(() => device.Pool.Return(buffer));
        Assert.Equal(0, device.Pool.RentedBlocks);
        Assert.Throws<ArgumentOutOfRangeException>(() => device.Pool.Rent(-1));
    }

    [Fact]
    public void PoisonsFreshMemoryOnRequest()
    {
        using var device = new CpuDevice(1) { PoisonFreshMemory = true };
        for (int i = 0; i < 2; i++)
        {
            using var scratch = new Scratch(device, 4 * 100);
            for (int j = 0; j < 100; j++)
            {
                Assert.True(float.IsNaN(scratch.Floats[j]));
                scratch.Floats[j] = 0;
            }
        }

        Assert.Equal(0, device.Pool.RentedBlocks);
    }

    [Fact]
    public void MeasuresItsPeak()
    {
        using var device = new CpuDevice(1);
        DeviceBuffer large = device.Pool.Rent(1 << 20);
        device.Pool.Return(large);
        Assert.Equal(1 << 20, device.Pool.PeakRentedBytes);
        device.Pool.ResetPeak();
        device.Pool.Return(device.Pool.Rent(64));
        Assert.Equal(64, device.Pool.PeakRentedBytes);
    }

    [Fact]
    public void SaysWhatToDoWhenThereIsNoMemory()
    {
        using var device = new CpuDevice(1);
        OutOfMemoryException exception = Assert.Throws<OutOfMemoryException>(() => device.Pool.Rent(1L << 60));
        Assert.Contains("lower the batch", exception.Message, StringComparison.Ordinal);
        Assert.Equal(0, device.Pool.RentedBlocks);
    }
}
