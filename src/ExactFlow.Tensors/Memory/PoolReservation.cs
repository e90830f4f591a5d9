namespace ExactFlow.Tensors.Memory;

/// <summary>
/// Memory of a pool set apart for work that is repeated at the same addresses, such as a graph captured once and replayed: what is rented while the
/// reservation is open comes from its own free memory first, returns to it whenever it is given back, and nobody else gets it until the reservation is
/// disposed. Doing the work once inside fills it; doing it again asks the system for nothing.
/// </summary>
public sealed class PoolReservation : IDisposable
{
    private readonly BufferPool pool;
    private readonly List<(DeviceBuffer Buffer, bool IsRent)> trace = [];
    private DeviceBuffer? slabBlock;
    private Slab? slab;
    private bool isPacked;

    internal PoolReservation(BufferPool pool) => this.pool = pool;

    /// <summary>Unused blocks by size class.</summary>
    internal Dictionary<long, Stack<DeviceBuffer>> Free { get; } = [];

    internal bool IsDisposed { get; private set; }

    /// <summary>Lets the pool rent from here until the result is disposed.</summary>
    /// <exception cref="InvalidOperationException">A reservation of the pool is open already.</exception>
    public Opening Open()
    {
        ObjectDisposedException.ThrowIf(IsDisposed, this);
        pool.Open(this);
        return new Opening(pool);
    }

    /// <summary>
    /// Puts the free blocks of work that ran once into one stretch of memory in which its requests, in the same order again, lie side by side: size classes
    /// keep blocks apart that are never needed at the same time. What is still rented stays where it is. Call it once, after the first run of the work.
    /// </summary>
    /// <exception cref="OutOfMemoryException">The device has no room for the stretch.</exception>
    public void Pack()
    {
        ObjectDisposedException.ThrowIf(IsDisposed, this);
        long bytes = isPacked ? 0 : DryRun();
        isPacked = true;
        if (bytes > 0)
        {
            // The device has what is freed to give again only when it has come to it.
            pool.FreeAll(Free);
            pool.WaitForDevice();
            slabBlock = pool.Allocate(bytes);
            slab = new Slab(slabBlock.Address, bytes);
        }

        trace.Clear();
    }

    /// <summary>Gives the unused memory to the pool, and what is still rented once it is returned.</summary>
    public void Dispose()
    {
        if (!IsDisposed)
        {
            IsDisposed = true;
            pool.TakeBack(Free);
            GiveSlabBack();
        }
    }

    /// <summary>A free block, or null.</summary>
    internal DeviceBuffer? Take(long capacity) => slab?.Take(capacity) ?? BufferPool.Take(Free, capacity);

    /// <summary>Notes a request, for <see cref="Pack"/>.</summary>
    internal void Note(DeviceBuffer buffer, bool isRent)
    {
        if (!isPacked)
        {
            trace.Add((buffer, isRent));
        }
    }

    /// <summary>A piece of the stretch was given back to it.</summary>
    internal void GiveSlabBack()
    {
        if (IsDisposed && slabBlock is { } block && slab!.Pieces == 0)
        {
            slabBlock = null;
            pool.TakeBack(block);
        }
    }

    /// <summary>Bytes that the requests so far need in one stretch, without those whose memory was kept: these do not come again.</summary>
    private long DryRun()
    {
        var lastRent = new Dictionary<DeviceBuffer, int>();
        for (int i = 0; i < trace.Count; i++)
        {
            if (trace[i].IsRent)
            {
                lastRent[trace[i].Buffer] = i;
            }
        }

        var dry = new Slab(0, long.MaxValue / 2);
        var pieces = new Dictionary<DeviceBuffer, DeviceBuffer>();
        for (int i = 0; i < trace.Count; i++)
        {
            (DeviceBuffer buffer, bool isRent) = trace[i];
            if (!isRent)
            {
                dry.Put(pieces[buffer]);
            }
            else if (!buffer.IsRented || lastRent[buffer] != i)
            {
                pieces[buffer] = dry.Take(buffer.Capacity)!;
            }
        }

        return dry.HighWater;
    }

    /// <summary>An open reservation.</summary>
    public readonly ref struct Opening
    {
        private readonly BufferPool pool;

        internal Opening(BufferPool pool) => this.pool = pool;

        /// <summary>Closes it; its memory stays set apart.</summary>
        public void Dispose() => pool.Close();
    }
}
