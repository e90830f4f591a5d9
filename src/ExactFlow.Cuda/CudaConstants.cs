namespace ExactFlow.Cuda;

/// <summary>
/// Small tables of integers that kernels read, such as where chunks begin: copied to the device once per content and kept as long as it,
/// so that a repeated step uploads nothing and can be captured as a graph. For tables that recur; one that is new each time belongs in a tensor.
/// </summary>
public sealed unsafe class CudaConstants
{
    private readonly CudaDevice device;
    private readonly Dictionary<string, nint> known = new(StringComparer.Ordinal);

    internal CudaConstants(CudaDevice device) => this.device = device;

    /// <summary>The device address of a table.</summary>
    /// <param name="key">Names the content: the same key must always come with the same values.</param>
    /// <param name="values">Makes the values when they are not there yet.</param>
    public nint Address(string key, Func<int[]> values)
    {
        ArgumentNullException.ThrowIfNull(values);
        if (known.TryGetValue(key, out nint address))
        {
            return address;
        }

        device.RequireNotCapturing($"making the table {key}");
        int[] table = values();
        address = device.AllocateOutsideThePool(Math.Max(table.Length, 1) * sizeof(int));
        try
        {
            Fill(address, table, key);
        }
        catch
        {
            _ = device.Driver.MemFreeAsync(address, device.Stream);
            throw;
        }

        known.Add(key, address);
        return address;
    }

    internal void Free()
    {
        foreach ((string key, nint address) in known)
        {
            device.Check(device.Driver.MemFreeAsync(address, device.Stream), "cuMemFreeAsync", key);
        }

        known.Clear();
    }

    private void Fill(nint address, int[] table, string key)
    {
        if (table.Length > 0)
        {
            fixed (int* source = table)
            {
                device.Check(device.Driver.MemcpyHtoDAsync(address, source, (nuint)table.Length * sizeof(int), device.Stream), "cuMemcpyHtoDAsync", key);
            }
        }
    }
}
