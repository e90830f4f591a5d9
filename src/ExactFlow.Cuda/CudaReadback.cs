namespace ExactFlow.Cuda;

/// <summary>
/// Brings small results of repeated work to the host without holding up the device: each is copied into page-locked memory behind the work that made it,
/// and the host waits for that copy alone, while later work already runs.
/// </summary>
public sealed unsafe class CudaReadback : IDisposable
{
    /// <summary>CU_EVENT_BLOCKING_SYNC: who waits leaves the processor to others.</summary>
    private const uint Blocking = 1;

    /// <summary>CU_EVENT_DISABLE_TIMING.</summary>
    private const uint WithoutTiming = 2;

    private readonly CudaDevice device;
    private readonly int bytes;
    private readonly nint[] arrived;
    private PageLockedBlock memory;
    private long queued;
    private long read;

    /// <summary>Takes the memory.</summary>
    /// <param name="device">Where results come from.</param>
    /// <param name="bytes">Bytes of each result.</param>
    /// <param name="depth">Results that may be under way at once.</param>
    /// <param name="sleeps">Whether <see cref="Read"/> sleeps while it waits, which takes some 50 microseconds to wake from, instead of keeping a processor busy.</param>
    public CudaReadback(CudaDevice device, int bytes, int depth = 2, bool sleeps = false)
    {
        ArgumentNullException.ThrowIfNull(device);
        ArgumentOutOfRangeException.ThrowIfLessThan(bytes, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(depth, 1);
        this.device = device;
        this.bytes = bytes;
        arrived = new nint[depth];
        memory = device.PageLocked.Rent((long)bytes * depth);
        try
        {
            device.UseOnThisThread();
            for (int i = 0; i < depth; i++)
            {
                device.Check(device.Driver.EventCreate(out arrived[i], sleeps ? Blocking | WithoutTiming : WithoutTiming), "cuEventCreate");
            }
        }
        catch
        {
            Release();
            throw;
        }
    }

    /// <summary>Results queued and not yet read.</summary>
    public int Pending => (int)(queued - read);

    /// <summary>Queues the copy of a result.</summary>
    /// <param name="source">Its address on the device.</param>
    /// <exception cref="InvalidOperationException">As many are under way as there is room for; read one first.</exception>
    public void Queue(nint source)
    {
        if (Pending == arrived.Length)
        {
            throw new InvalidOperationException($"A result was queued for reading while {Pending} are under way, as many as there is room for.");
        }

        int slot = (int)(queued % arrived.Length);
        device.UseOnThisThread();
        device.Check(device.Driver.MemcpyDtoHAsync((byte*)memory.Address + ((long)slot * bytes), source, (nuint)bytes, device.Stream), "cuMemcpyDtoHAsync", $"{bytes:N0} bytes");
        device.Check(device.Driver.EventRecord(arrived[slot], device.Stream), "cuEventRecord");
        queued++;
    }

    /// <summary>Waits for the oldest result that was queued and not read. What is returned is valid until as many more are queued as there is room for.</summary>
    public ReadOnlySpan<byte> Read()
    {
        if (Pending == 0)
        {
            throw new InvalidOperationException("A result was read, but none is under way.");
        }

        int slot = (int)(read % arrived.Length);
        device.UseOnThisThread();
        device.Check(device.Driver.EventSynchronize(arrived[slot]), "cuEventSynchronize");
        read++;
        return new ReadOnlySpan<byte>((byte*)memory.Address + ((long)slot * bytes), bytes);
    }

    /// <summary>Waits for copies under way and gives the memory back.</summary>
    public void Dispose()
    {
        if (memory.Address != 0)
        {
            device.UseOnThisThread();
            CudaResult waited = Pending > 0 ? device.Driver.StreamSynchronize(device.Stream) : CudaResult.Success;
            read = queued;
            CudaResult released = Release();
            device.Check(waited, "cuStreamSynchronize");
            device.Check(released, "cuEventDestroy");
        }
    }

    private CudaResult Release()
    {
        CudaResult result = CudaResult.Success;
        foreach (nint mark in arrived)
        {
            if (mark != 0 && device.Driver.EventDestroy(mark) is var destroyed and not CudaResult.Success)
            {
                result = destroyed;
            }
        }

        device.PageLocked.Return(memory);
        memory = default;
        return result;
    }
}
