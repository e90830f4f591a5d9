namespace ExactFlow.Cuda;

/// <summary>Properties of a GPU that launches and kernel choices depend on, with the driver's numbers.</summary>
public enum CudaDeviceAttribute
{
    /// <summary>Threads in a block, at most.</summary>
    MaxThreadsPerBlock = 1,

    /// <summary>Blocks in a grid along x, at most.</summary>
    MaxGridX = 5,

    /// <summary>Blocks in a grid along y, at most.</summary>
    MaxGridY = 6,

    /// <summary>Blocks in a grid along z, at most.</summary>
    MaxGridZ = 7,

    /// <summary>Multiprocessors.</summary>
    MultiprocessorCount = 16,

    /// <summary>Major compute capability, such as 9 for sm_90.</summary>
    ComputeCapabilityMajor = 75,

    /// <summary>Minor compute capability.</summary>
    ComputeCapabilityMinor = 76,

    /// <summary>Bytes of shared memory a block may opt in to.</summary>
    MaxSharedMemoryPerBlockOptIn = 97,

    /// <summary>1 when stream-ordered allocation is available.</summary>
    MemoryPoolsSupported = 115,
}
