namespace ExactFlow.Cuda;

/// <summary>Attributes of a kernel that this project sets.</summary>
public enum CudaFunctionAttribute
{
    /// <summary>CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES: what a launch may ask for beyond 48 KB.</summary>
    MaxDynamicSharedBytes = 8,

    /// <summary>CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT: the part of a multiprocessor's first-level memory that is shared memory, in percent of the most there can be.</summary>
    PreferredSharedCarveout = 9,
}
