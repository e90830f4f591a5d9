namespace ExactFlow.Tensors.Memory;

/// <summary>
/// Blocks of a pool set apart for work that is repeated at the same addresses, such as a graph captured once and replayed: what is rented while the
/// reservation is open comes from its own free blocks first, returns to them whenever it is given back, and nobody else gets it until the reservation is
/// disposed. Doing the work once inside fills it; doing it again asks the system for nothing.
/// </summary>
public sealed class PoolReservation : IDisposable
{
    private readonly BufferPool pool;

    internal PoolReservation(BufferPool pool) => this.pool = pool;

    /// <summary>Bytes set apart, rented at the moment or not.</summary>
    public long Bytes { get; internal set; }

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

    /// <summary>Gives the unused blocks to the pool, and those still rented once they are returned.</summary>
    public void Dispose()
    {
        if (!IsDisposed)
        {
            IsDisposed = true;
            pool.TakeBack(this);
        }
    }

    /// <summary>An open reservation.</summary>
    public readonly ref struct Opening
    {
        private readonly BufferPool pool;

        internal Opening(BufferPool pool) => this.pool = pool;

        /// <summary>Closes it; its blocks stay set apart.</summary>
        public void Dispose() => pool.Close();
    }
}
