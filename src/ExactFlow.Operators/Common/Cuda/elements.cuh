#include "bf16.cuh"

// Elements of either format as float, pieces of 16 bytes, sums over warps and blocks, gradients to write or add to.

#define EACH(i, n) for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < (n); i += (i64)gridDim.x * blockDim.x)

// Instantiates a kernel template `name<T>(const Args)` as name_float32 and name_bfloat16.
#define BOTH_TYPES(name, Args, threads)                                                                              \
    extern "C" __global__ void __launch_bounds__(threads) name##_float32(const Args g) { name<float>(g); }           \
    extern "C" __global__ void __launch_bounds__(threads) name##_bfloat16(const Args g) { name<bf16>(g); }

__device__ __forceinline__ float load(const float* p, i64 i) { return p[i]; }
__device__ __forceinline__ float load(const bf16* p, i64 i) { return to_float(p[i]); }
__device__ __forceinline__ void store(float* p, i64 i, float x) { p[i] = x; }
__device__ __forceinline__ void store(bf16* p, i64 i, float x) { p[i].bits = (unsigned short)pack(x, 0.f); }

// A piece of 16 bytes as floats: four float32 or eight bfloat16; addresses are multiples of 16.
template <typename T> struct Piece;
template <> struct Piece<float>
{
    static constexpr int N = 4;
    static __device__ __forceinline__ void load(float (&x)[4], const float* p)
    {
        float4 v = *reinterpret_cast<const float4*>(p);
        x[0] = v.x; x[1] = v.y; x[2] = v.z; x[3] = v.w;
    }
    static __device__ __forceinline__ void store(float* p, const float (&x)[4]) { *reinterpret_cast<float4*>(p) = make_float4(x[0], x[1], x[2], x[3]); }
};
template <> struct Piece<bf16>
{
    static constexpr int N = 8;
    static __device__ __forceinline__ void load(float (&x)[8], const bf16* p)
    {
        uint4 v = *reinterpret_cast<const uint4*>(p);
        u32 w[4] = { v.x, v.y, v.z, v.w };
#pragma unroll
        for (int i = 0; i < 4; i++) { x[2 * i] = __uint_as_float(w[i] << 16); x[2 * i + 1] = __uint_as_float(w[i] & 0xFFFF0000u); }
    }
    static __device__ __forceinline__ void store(bf16* p, const float (&x)[8])
    {
        *reinterpret_cast<uint4*>(p) = make_uint4(pack(x[0], x[1]), pack(x[2], x[3]), pack(x[4], x[5]), pack(x[6], x[7]));
    }
};

// Where a gradient goes: nowhere (null), over undefined memory, or added to what is there.
struct Target { void* to; i64 accumulate; };
template <typename T> __device__ __forceinline__ void write(const Target& t, i64 i, float x)
{
    T* to = (T*)t.to;
    store(to, i, t.accumulate ? load(to, i) + x : x);
}
template <typename T> __device__ __forceinline__ void write_piece(const Target& t, i64 i, float (&x)[Piece<T>::N])
{
    T* to = (T*)t.to + i;
    if (t.accumulate)
    {
        float old[Piece<T>::N];
        Piece<T>::load(old, to);
#pragma unroll
        for (int j = 0; j < Piece<T>::N; j++) x[j] += old[j];
    }
    Piece<T>::store(to, x);
}

__device__ __forceinline__ float warp_sum(float x)
{
#pragma unroll
    for (int d = 16; d > 0; d >>= 1) x += __shfl_xor_sync(0xFFFFFFFFu, x, d);
    return x;
}
__device__ __forceinline__ float warp_max(float x)
{
#pragma unroll
    for (int d = 16; d > 0; d >>= 1) x = fmaxf(x, __shfl_xor_sync(0xFFFFFFFFu, x, d));
    return x;
}
// The sum over a one-dimensional block, to every thread; `room` is 32 floats of shared memory, free again after the call.
__device__ __forceinline__ float block_sum(float x, float* room)
{
    x = warp_sum(x);
    if ((threadIdx.x & 31) == 0) room[threadIdx.x >> 5] = x;
    __syncthreads();
    float total = 0.f;
    for (int w = 0; w < (int)(blockDim.x >> 5); w++) total += room[w];
    __syncthreads();
    return total;
}
__device__ __forceinline__ float block_max(float x, float* room)
{
    x = warp_max(x);
    if ((threadIdx.x & 31) == 0) room[threadIdx.x >> 5] = x;
    __syncthreads();
    float total = room[0];
    for (int w = 1; w < (int)(blockDim.x >> 5); w++) total = fmaxf(total, room[w]);
    __syncthreads();
    return total;
}
