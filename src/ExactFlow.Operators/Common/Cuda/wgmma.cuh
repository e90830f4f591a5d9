#include "mma.cuh"

// Products of 128 threads (sm_90a) on 64-column tiles in shared memory.
// Every operand is a [rows][64] bf16 tile in shared memory, 1024-byte aligned, 16-byte pieces permuted within a row by the row number
// (the 128-byte swizzle that wgmma expects). The same tile serves as K-major (plain) or MN-major (transposed) operand.
constexpr int TILE = 64 * 64;   // elements of a tile
__device__ __forceinline__ int swz(int r, int c) { return r * 64 + ((((c >> 3) ^ r) & 7) << 3) + (c & 7); }

#ifndef EXACTFLOW_EMULATION
__device__ __forceinline__ u64 desc(const bf16* p) { return (u64)((smem_u32(p) & 0x3FFFF) >> 4) | (1ull << 16) | (64ull << 32) | (1ull << 62); }
__device__ __forceinline__ void wg_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wg_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int N> __device__ __forceinline__ void wg_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory"); }
__device__ __forceinline__ void proxy_fence() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
template <int ID> __device__ __forceinline__ void bar(int threads) { asm volatile("bar.sync %0, %1;" ::"n"(ID), "r"(threads) : "memory"); }

// d[64 x 64] += A[64 x 16] B[16 x 64]; TA: A stored [k][row]; TB: B stored [k][col] (1) or [col][k] (0).
template <int TA, int TB> __device__ __forceinline__ void wgmma64(float (&d)[32], u64 a, u64 b)
{
    asm volatile("{\n"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
        "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, "
        "%32, %33, 1, 1, 1, %34, %35;\n}"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]),
          "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]),
          "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])
        : "l"(a), "l"(b), "n"(TA), "n"(TB));
}
// The registers that each thread of this warpgroup may use from now on.
template <int N> __device__ __forceinline__ void raise_registers() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N)); }
template <int N> __device__ __forceinline__ void lower_registers() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N)); }
#endif
// d += A B over a depth of 64: A and B one tile each (64 rows, or 64 columns, deep).
template <int TA, int TB> __device__ __forceinline__ void product64(float (&d)[32], const bf16* a, const bf16* b)
{
    u64 da = desc(a), db = desc(b);
#pragma unroll
    for (int s = 0; s < 4; s++) wgmma64<TA, TB>(d, da + s * (TA ? 128 : 2), db + s * (TB ? 128 : 2));
}
// Fragment (row, column) of accumulator i in a warpgroup's 64 x 64 tile: row = 16 warp + lane / 4 + 8 ((i >> 1) & 1), column = 8 (i >> 2) + 2 (lane & 3) + (i & 1).
__device__ __forceinline__ void store_tile(bf16* tile, const float (&d)[32], int row, int c2)
{
#pragma unroll
    for (int j = 0; j < 8; j++)
#pragma unroll
        for (int half = 0; half < 2; half++)
            *reinterpret_cast<u32*>(tile + swz(row + half * 8, j * 8 + c2)) = pack(d[j * 4 + half * 2], d[j * 4 + half * 2 + 1]);
}
__device__ __forceinline__ float2 tile2(const bf16* tile, int r, int c) { return to_float2(*reinterpret_cast<const bf16x2*>(tile + swz(r, c))); }
// 64 x 64 tile from global rows of `stride` elements, zero-filled beyond `valid` rows; by 128 threads.
__device__ __forceinline__ void fetch_tile(bf16* tile, const bf16* g, i64 stride, int valid, int tid)
{
#pragma unroll
    for (int i = 0; i < 4; i++)
    {
        int at = tid + i * 128, r = at >> 3, c8 = (at & 7) * 8;
        bool ok = r < valid;
        cp16(tile + swz(r, c8), g + (ok ? r : 0) * stride + c8, ok);
    }
}
// A 64 x 64 tile in shared memory to global rows of `stride` elements, the first `valid` of them; by 128 threads.
__device__ __forceinline__ void copy_tile(bf16* g, const bf16* tile, i64 stride, int valid, int tid)
{
#pragma unroll
    for (int i = 0; i < 4; i++)
    {
        const int at = tid + i * 128, r = at >> 3, c8 = (at & 7) * 8;
        if (r < valid) *reinterpret_cast<uint4*>(g + r * stride + c8) = *reinterpret_cast<const uint4*>(tile + swz(r, c8));
    }
}
// Fragments times a factor to global rows of `stride` elements, the first `valid` of them.
__device__ __forceinline__ void write_rows(bf16* g, const float (&d)[32], float factor, i64 stride, int valid, int row, int c2)
{
#pragma unroll
    for (int half = 0; half < 2; half++)
    {
        const int r = row + half * 8;
        if (r < valid)
#pragma unroll
            for (int j = 0; j < 8; j++) *reinterpret_cast<u32*>(g + r * stride + c2 + j * 8) = pack(factor * d[j * 4 + half * 2], factor * d[j * 4 + half * 2 + 1]);
    }
}
__device__ __forceinline__ void zero(float (&d)[32])
{
#pragma unroll
    for (int i = 0; i < 32; i++) d[i] = 0.f;
}
