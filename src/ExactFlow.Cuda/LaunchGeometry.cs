namespace ExactFlow.Cuda;

/// <summary>How a kernel is spread: blocks of a grid, threads of a block, dynamic shared memory.</summary>
/// <param name="GridX">Blocks along x, at most 2^31 - 1.</param>
/// <param name="GridY">Blocks along y, at most 65,535.</param>
/// <param name="GridZ">Blocks along z, at most 65,535.</param>
/// <param name="BlockX">Threads along x; at most 1,024 in the whole block.</param>
/// <param name="BlockY">Threads along y.</param>
/// <param name="BlockZ">Threads along z, at most 64.</param>
/// <param name="SharedBytes">Dynamic shared memory of a block, in bytes.</param>
public readonly record struct LaunchGeometry(int GridX, int GridY, int GridZ, int BlockX, int BlockY, int BlockZ, int SharedBytes)
{
    /// <summary>Blocks along y or z, at most: the same on every GPU so far.</summary>
    public const int MaxGridYZ = 65_535;

    /// <summary>Threads in a block, at most: the same on every GPU so far.</summary>
    public const int MaxThreads = 1_024;

    /// <summary>Threads of a block along z, at most.</summary>
    public const int MaxBlockZ = 64;

    /// <summary>
    /// Whether the kernel may begin before the one queued ahead of it has ended, on GPUs that can do so: it waits for that one itself, by
    /// <c>wait_for_previous</c> of overlap.cuh. Otherwise it begins when everything before it has ended.
    /// </summary>
    public bool BeginsEarly { get; init; }

    /// <summary>What keeps this geometry from being launched, or null when nothing does.</summary>
    public string? Problem()
    {
        if (GridX < 1 || GridY < 1 || GridZ < 1 || BlockX < 1 || BlockY < 1 || BlockZ < 1 || SharedBytes < 0)
        {
            return "every extent must be at least 1";
        }

        if (GridY > MaxGridYZ || GridZ > MaxGridYZ)
        {
            return $"a grid has at most {MaxGridYZ:N0} blocks along y and z";
        }

        if ((long)BlockX * BlockY * BlockZ > MaxThreads)
        {
            return $"a block has at most {MaxThreads:N0} threads";
        }

        return BlockZ > MaxBlockZ ? $"a block has at most {MaxBlockZ} threads along z" : null;
    }

    /// <inheritdoc/>
    public override string ToString() => $"grid {GridX}x{GridY}x{GridZ}, block {BlockX}x{BlockY}x{BlockZ}, {SharedBytes} shared bytes";
}
