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
    public void Packed_work_lies_in_one_stretch_that_is_as_long_as_it_needs()
    {
        using var device = new CpuDevice(1);
        PoolReservation reservation = device.Pool.Reserve();
        DeviceBuffer kept = Phases(device, reservation, keep: true)!;
        long apart = device.Pool.ReservedBytes;
        reservation.Pack();

        // Two phases that follow each other need the larger of both, 3 x 8 KiB; in size classes they need their sum.
        Assert.Equal(kept.Capacity + (3 * 8192), device.Pool.ReservedBytes);
        Assert.True(apart > device.Pool.ReservedBytes + 8192, $"{apart}");
        long allocations = device.Pool.SystemAllocations;
        Phases(device, reservation, keep: false);
        Phases(device, reservation, keep: false);
        Assert.Equal(allocations, device.Pool.SystemAllocations);
        Assert.Equal(1, device.Pool.RentedBlocks);

        // What does not fit comes from the pool, and pieces may outlive the reservation.
        DeviceBuffer piece, large;
        using (reservation.Open())
        {
            (piece, large) = (device.Pool.Rent(8192), device.Pool.Rent(1 << 16));
        }

        reservation.Dispose();
        Array.ForEach([piece, large, kept], device.Pool.Return);
        device.Pool.Trim();
        Assert.Equal(0, device.Pool.ReservedBytes);
        Assert.Equal(0, device.Pool.RentedBlocks);
    }

    [Fact]
    public void Pieces_of_a_stretch_never_overlap()
    {
        var random = new Random(1);
        var slab = new Slab(0, 1 << 20);
        var pieces = new List<DeviceBuffer>();
        for (int i = 0; i < 5000; i++)
        {
            if (pieces.Count > 0 && random.Next(5) < 2)
            {
                int which = random.Next(pieces.Count);
                slab.Put(pieces[which]);
                pieces.RemoveAt(which);
            }
            else if (slab.Take(1 + random.Next(20_000)) is { } piece)
            {
                Assert.All(pieces, other => Assert.True(piece.Address + piece.Capacity <= other.Address || other.Address + other.Capacity <= piece.Address));
                Assert.True(piece.Address >= 0 && piece.Address + piece.Capacity <= 1 << 20 && piece.Address % 512 == 0);
                pieces.Add(piece);
            }

            Assert.Equal(pieces.Count, slab.Pieces);
        }

        pieces.ForEach(slab.Put);
        Assert.NotNull(slab.Take(1 << 20));
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

    /// <summary>Three blocks of 8 KiB, then three of 4; a small one that is kept.</summary>
    private static DeviceBuffer? Phases(CpuDevice device, PoolReservation reservation, bool keep)
    {
        using PoolReservation.Opening opening = reservation.Open();
        DeviceBuffer? kept = null;
        foreach (int bytes in (int[])[8192, 4096])
        {
            DeviceBuffer[] blocks = [device.Pool.Rent(bytes), device.Pool.Rent(bytes), device.Pool.Rent(bytes)];
            kept ??= keep ? device.Pool.Rent(1024) : null;
            Array.ForEach(blocks, device.Pool.Return);
        }

        return kept;
    }

    private static nint[] Work(CpuDevice device, PoolReservation reservation)
    {
        using PoolReservation.Opening opening = reservation.Open();
        DeviceBuffer[] blocks = [device.Pool.Rent(1000), device.Pool.Rent(1000), device.Pool.Rent(1000)];
        Array.ForEach(blocks, device.Pool.Return);
        return [.. blocks.Select(block => block.Address)];
    }
}
