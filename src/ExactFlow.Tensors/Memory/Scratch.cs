namespace ExactFlow.Tensors.Memory;

/// <summary>Working memory of one operator call: rented at construction, returned at <see cref="Dispose"/>. Contents are undefined at first.</summary>
public readonly unsafe ref struct Scratch
{
    private readonly BufferPool pool;
    private readonly DeviceBuffer buffer;

    /// <summary>Rents <paramref name="bytes"/> bytes of <paramref name="device"/>.</summary>
    public Scratch(Device device, long bytes)
    {
        ArgumentNullException.ThrowIfNull(device);
        pool = device.Pool;
        buffer = pool.Rent(bytes);
    }

    /// <summary>The memory, aligned to 64 bytes at least.</summary>
    public nint Address => buffer.Address;

    /// <summary>The memory as floats (meaningful on the CPU).</summary>
    public float* Floats => (float*)buffer.Address;

    /// <summary>Returns the memory.</summary>
    public void Dispose() => pool.Return(buffer);
}
