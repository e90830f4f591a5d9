namespace ExactFlow.Tensors.Memory;

/// <summary>A block of device memory that travels between the pool and the tensors using it.</summary>
public sealed class DeviceBuffer
{
    internal DeviceBuffer(nint address, long capacity)
    {
        Address = address;
        Capacity = capacity;
    }

    /// <summary>Address on the device.</summary>
    public nint Address { get; }

    /// <summary>Usable bytes, at least what was asked for.</summary>
    public long Capacity { get; }

    /// <summary>Whether somebody holds it; a second return to the pool is refused.</summary>
    internal bool IsRented { get; set; }

    /// <summary>The reservation it was rented under and returns to, or null.</summary>
    internal PoolReservation? Reservation { get; set; }

    /// <summary>The stretch of memory it is a piece of, or null when it is a block of its own.</summary>
    internal Slab? Slab { get; init; }

    /// <summary>What is disposed in place of a return: the block lies in memory that is not the pool's. Null for blocks of the pool.</summary>
    internal IDisposable? Owner { get; init; }

    /// <summary>Tensors (a tensor and its views) that share the block.</summary>
    internal int References { get; set; }

    /// <summary>Tensors that adopted the block as their gradient.</summary>
    internal int GradientOwners { get; set; }
}
