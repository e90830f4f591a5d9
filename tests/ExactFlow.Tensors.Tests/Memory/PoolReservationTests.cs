using ExactFlow.Tensors.Memory;

namespace ExactFlow.Tensors.Tests;

/// <summary>Memory that is set apart for repeated work.</summary>
public sealed class PoolReservationTests
{
    [Fact]
    public void Repeated_work_meets_the_same_memory_and_nobody_else_does()
    {
        using var device = new CpuDevice(1);
        using PoolReservation reservation = device.Pool.Reserve();
        nint[] first = Work(device, reservation);
        DeviceBuffer other = device.Pool.Rent(1000);
        Assert.DoesNotContain(other.Address, first);
        long allocations = device.Pool.SystemAllocations;
        Assert.Equal(first.Order(), Work(device, reservation).Order());
        Assert.Equal(allocations, device.Pool.SystemAllocations);
        Assert.Equal(3072, reservation.Bytes);
        device.Pool.Return(other);
        Assert.Equal(0, device.Pool.RentedBlocks);

        reservation.Dispose();
        DeviceBuffer[] later = [device.Pool.Rent(1000), device.Pool.Rent(1000), device.Pool.Rent(1000), device.Pool.Rent(1000)];
        Assert.Equal(allocations, device.Pool.SystemAllocations);
        Array.ForEach(later, device.Pool.Return);
    }

    [Fact]
    public void Blocks_of_the_pool_join_and_what_outlives_the_reservation_goes_back_to_the_pool()
    {
        using var device = new CpuDevice(1);
        device.Pool.Return(device.Pool.Rent(500));
        PoolReservation reservation = device.Pool.Reserve();
        DeviceBuffer kept;
        using (reservation.Open())
        {
            kept = device.Pool.Rent(500);
        }

        Assert.Equal(1, device.Pool.SystemAllocations);
        reservation.Dispose();
        device.Pool.Return(kept);
        Assert.Same(kept, device.Pool.Rent(500));
        device.Pool.Return(kept);
        device.Pool.Trim();
        Assert.Equal(0, device.Pool.ReservedBytes);
    }

    [Fact]
    public void Trimming_leaves_it_alone()
    {
        using var device = new CpuDevice(1);
        using PoolReservation reservation = device.Pool.Reserve();
        nint[] first = Work(device, reservation);
        device.Pool.Trim();
        Assert.Equal(first.Order(), Work(device, reservation).Order());
    }

    [Fact]
    public void One_is_open_at_a_time()
    {
        using var device = new CpuDevice(1);
        using PoolReservation reservation = device.Pool.Reserve();
        using PoolReservation second = device.Pool.Reserve();
        using (reservation.Open())
        {
            Assert.Throws<InvalidOperationException>(() => OpenAndClose(second));
        }

        OpenAndClose(second);
        second.Dispose();
        Assert.Throws<ObjectDisposedException>(() => OpenAndClose(second));
    }

    private static void OpenAndClose(PoolReservation reservation)
    {
        using PoolReservation.Opening opening = reservation.Open();
    }

    private static nint[] Work(CpuDevice device, PoolReservation reservation)
    {
        using PoolReservation.Opening opening = reservation.Open();
        DeviceBuffer[] blocks = [device.Pool.Rent(1000), device.Pool.Rent(1000), device.Pool.Rent(1000)];
        Array.ForEach(blocks, device.Pool.Return);
        return [.. blocks.Select(block => block.Address)];
    }
}
