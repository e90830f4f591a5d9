// Kernels that begin before the one queued ahead of them has ended (programmatic dependent launch, sm_90 on): what does not depend on it, such as reading
// weights, is done in that time. Both do nothing where kernels run strictly one after the other.

// The kernel queued behind this one may begin. Its blocks then share the multiprocessors with those of this one.
__device__ __forceinline__ void let_next_begin()
{
#if !defined(EXACTFLOW_EMULATION) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Waits until everything queued earlier has ended and its results can be read. Every thread of a kernel that may begin early passes here,
// even one that has nothing to do, or the kernel behind it would wait for too little.
__device__ __forceinline__ void wait_for_previous()
{
#if !defined(EXACTFLOW_EMULATION) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
