using System.Numerics;
using System.Runtime.ExceptionServices;

namespace ExactFlow.Tensors.Memory;

/// <summary>
/// Keeps returned blocks by size class and hands them out again, so that a steady training step asks the system for nothing.
/// Classes are powers of two with four steps between (at most 25 % slack), 64 bytes at least; from a mebibyte on with sixteen (6 %).
/// </summary>
public sealed class BufferPool : IDisposable
{
    private const long SmallestBlock = 64;
    private const long LargeBlock = 1 << 20;
    private readonly Device device;
    private readonly Dictionary<long, Stack<DeviceBuffer>> free = [];
    private PoolReservation? open;

    internal BufferPool(Device device) => this.device = device;

    /// <summary>Bytes handed out now.</summary>
    public long RentedBytes { get; private set; }

    /// <summary>The most bytes ever handed out at once since <see cref="ResetPeak"/>.</summary>
    public long PeakRentedBytes { get; private set; }

    /// <summary>Bytes held from the system, handed out or not.</summary>
    public long ReservedBytes { get; private set; }

    /// <summary>Blocks handed out now; zero after everything was disposed, or something leaks.</summary>
    public int RentedBlocks { get; private set; }

    /// <summary>How often the system was asked for memory.</summary>
    public long SystemAllocations { get; private set; }

    /// <summary>Takes a block of at least <paramref name="bytes"/> bytes; contents undefined.</summary>
    /// <exception cref="OutOfMemoryException">The device has no more memory; the sentence says what was asked and what is held.</exception>
    public DeviceBuffer Rent(long bytes)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(bytes);
        long capacity = SizeClass(bytes);
        DeviceBuffer buffer = open?.Take(capacity) ?? Take(free, capacity) ?? Allocate(capacity);
        if (open is not null)
        {
            buffer.Reservation = open;
            open.Note(buffer, isRent: true);
        }

        buffer.IsRented = true;
        buffer.References = 1;
        buffer.GradientOwners = 0;
        RentedBlocks++;
        RentedBytes += capacity;
        PeakRentedBytes = Math.Max(PeakRentedBytes, RentedBytes);
        if (device.PoisonFreshMemory)
        {
            Poison(buffer);
        }

        return buffer;
    }

    /// <summary>Gives a block back.</summary>
    /// <exception cref="InvalidOperationException">The block was given back before.</exception>
    public void Return(DeviceBuffer buffer)
    {
        ArgumentNullException.ThrowIfNull(buffer);
        if (!buffer.IsRented)
        {
            throw new InvalidOperationException("A memory block was returned to its pool twice.");
        }

        buffer.IsRented = false;
        RentedBlocks--;
        if (buffer.Owner is { } owner)
        {
            owner.Dispose();
            return;
        }

        RentedBytes -= buffer.Capacity;
        if (buffer.Slab is { } slab)
        {
            slab.Put(buffer);
            buffer.Reservation!.GiveSlabBack();
            return;
        }

        if (buffer.Reservation is { IsDisposed: true })
        {
            buffer.Reservation = null;
        }

        buffer.Reservation?.Note(buffer, isRent: false);
        Put(buffer.Reservation?.Free ?? free, buffer);
    }

    /// <summary>
    /// Makes memory that is not the pool's look like a block of it. Its return disposes the owner. It counts among <see cref="RentedBlocks"/>, where leaks show, but
    /// its bytes are not the device's.
    /// </summary>
    internal DeviceBuffer Borrow(nint address, long bytes, IDisposable owner)
    {
        RentedBlocks++;
        return new DeviceBuffer(address, bytes) { Owner = owner, IsRented = true, References = 1 };
    }

    /// <summary>Sets memory apart for work that is repeated at the same addresses.</summary>
    public PoolReservation Reserve() => new(this);

    /// <summary>Gives all unused blocks back to the system. A block the device fails to free does not keep the others; its error is thrown in the end.</summary>
    public void Trim() => FreeAll(free);

    /// <summary>Starts a new measurement of <see cref="PeakRentedBytes"/>.</summary>
    public void ResetPeak() => PeakRentedBytes = RentedBytes;

    /// <summary>Releases every unused block. Blocks still rented are leaked to their holders.</summary>
    public void Dispose() => Trim();

    internal void Open(PoolReservation reservation)
        => open = open is null ? reservation : throw new InvalidOperationException($"A reservation of the memory of {device.Name} was opened inside another: close that first.");

    internal void Close() => open = null;

    internal void WaitForDevice() => device.Synchronize();

    /// <summary>Makes blocks of a reservation blocks of the pool.</summary>
    internal void TakeBack(Dictionary<long, Stack<DeviceBuffer>> unused)
    {
        foreach (Stack<DeviceBuffer> blocks in unused.Values)
        {
            while (blocks.TryPop(out DeviceBuffer? block))
            {
                TakeBack(block);
            }
        }
    }

    internal void TakeBack(DeviceBuffer block)
    {
        block.Reservation = null;
        Put(free, block);
    }

    /// <summary>Gives unused blocks back to the system.</summary>
    internal void FreeAll(Dictionary<long, Stack<DeviceBuffer>> unused)
    {
        ExceptionDispatchInfo? failure = null;
        foreach (Stack<DeviceBuffer> blocks in unused.Values)
        {
            while (blocks.TryPop(out DeviceBuffer? block))
            {
                ReservedBytes -= block.Capacity;
                try
                {
                    device.FreeNative(block.Address, block.Capacity);
                }
                catch (Exception exception)
                {
                    failure ??= ExceptionDispatchInfo.Capture(exception);
                }
            }
        }

        failure?.Throw();
    }

    internal static DeviceBuffer? Take(Dictionary<long, Stack<DeviceBuffer>> from, long capacity)
        => from.TryGetValue(capacity, out Stack<DeviceBuffer>? blocks) && blocks.TryPop(out DeviceBuffer? block) ? block : null;

    private static void Put(Dictionary<long, Stack<DeviceBuffer>> to, DeviceBuffer buffer)
    {
        if (!to.TryGetValue(buffer.Capacity, out Stack<DeviceBuffer>? blocks))
        {
            to.Add(buffer.Capacity, blocks = new Stack<DeviceBuffer>());
        }

        blocks.Push(buffer);
    }

    private static long SizeClass(long bytes)
    {
        if (bytes <= SmallestBlock)
        {
            return SmallestBlock;
        }

        int log = BitOperations.Log2((ulong)(bytes - 1));
        long step = Math.Max(1L << log >> (bytes > LargeBlock ? 4 : 2), SmallestBlock);
        return (bytes + step - 1) / step * step;
    }

    private void Poison(DeviceBuffer buffer)
    {
        try
        {
            device.Fill(buffer.Address, buffer.Capacity, 0xFF);
        }
        catch
        {
            Return(buffer);
            throw;
        }
    }

    /// <summary>A block from the system.</summary>
    internal DeviceBuffer Allocate(long capacity)
    {
        nint address;
        try
        {
            address = device.AllocateNative(capacity);
        }
        catch (OutOfMemoryException)
        {
            // What is freed is there for others only when the device has come to it.
            Trim();
            device.Synchronize();
            try
            {
                address = device.AllocateNative(capacity);
            }
            catch (OutOfMemoryException exception)
            {
                string free = device.FreeBytes is { } bytes ? $", {bytes:N0} are free" : "";
                throw new OutOfMemoryException(
                    $"Device {device.Name} has no room for {capacity:N0} more bytes ({RentedBytes:N0} are in use{free}): lower the batch, the sequence length or the model size.", exception);
            }
        }

        SystemAllocations++;
        ReservedBytes += capacity;
        return new DeviceBuffer(address, capacity);
    }
}
