#include "mma.cuh"
#include "elements.cuh"

// One small kernel for each thing that kernels rely on.

struct ProbeArgs { const float* x; float* y; i64 n; };

// y[b] = sum of x over the block's 256 elements, through shuffles and static shared memory.
extern "C" __global__ void __launch_bounds__(256) block_sums(const ProbeArgs g)
{
    __shared__ float room[32];
    float sum = block_sum(g.x[(i64)blockIdx.x * 256 + threadIdx.x], room);
    if (threadIdx.x == 0) g.y[blockIdx.x] = sum;
}

// Reverses each block's elements through dynamic shared memory.
extern "C" __global__ void reverse(const ProbeArgs g)
{
    DYNAMIC_SHARED(raw);
    float* s = (float*)raw;
    i64 start = (i64)blockIdx.x * blockDim.x;
    s[threadIdx.x] = g.x[start + threadIdx.x];
    __syncthreads();
    g.y[start + threadIdx.x] = s[blockDim.x - 1 - threadIdx.x];
}

// y[block][64] = what shared memory holds before anything was written to it: static and dynamic.
extern "C" __global__ void unwritten(const ProbeArgs g)
{
    DYNAMIC_SHARED(raw);
    __shared__ float fixed[32];
    g.y[blockIdx.x * 64 + threadIdx.x] = fixed[threadIdx.x];
    g.y[blockIdx.x * 64 + 32 + threadIdx.x] = ((float*)raw)[threadIdx.x];
    __syncthreads();
    fixed[threadIdx.x] = 1.f;
    ((float*)raw)[threadIdx.x] = 1.f;
}

// Every kind of exchange within a warp; y is [8][32].
extern "C" __global__ void exchanges(const ProbeArgs g)
{
    int lane = threadIdx.x;
    float x = g.x[lane];
    g.y[lane] = __shfl_xor_sync(0xFFFFFFFFu, x, 5);
    g.y[32 + lane] = __shfl_sync(0xFFFFFFFFu, x, 7);
    g.y[64 + lane] = __shfl_down_sync(0xFFFFFFFFu, x, 3);
    g.y[96 + lane] = __shfl_up_sync(0xFFFFFFFFu, x, 3);
    g.y[128 + lane] = (float)__popc(__ballot_sync(0xFFFFFFFFu, x > 0.f));
    g.y[160 + lane] = __shfl_sync(0xFFFFFFFFu, x, lane + 1, 8);
    __syncwarp();
    g.y[192 + lane] = __any_sync(0xFFFFFFFFu, lane == 31) ? 1.f : 0.f;
    g.y[224 + lane] = __all_sync(0xFFFFFFFFu, lane < 31) ? 1.f : 0.f;
}

// y[16 x 16] = a[16 x 16] b[16 x 16], a and b bfloat16, row-major, through shared memory. Transposed = the operands are stored the other way round.
struct ProductArgs { const bf16* a; const bf16* b; float* y; };
template <bool Transposed> __device__ __forceinline__ void product(const ProductArgs& g)
{
    __shared__ __align__(16) bf16 a[16 * 24];
    __shared__ __align__(16) bf16 b[16 * 24];
    int lane = threadIdx.x, row = lane / 2, c8 = lane % 2 * 8;
    cp16(a + row * 24 + c8, g.a + row * 16 + c8, true);
    cp16(b + row * 24 + c8, g.b + row * 16 + c8, true);
    cp_commit();
    cp_wait<0>();
    __syncthreads();
    u32 ra[4], rb[4];
    if (Transposed) { load_at<24>(ra, a, 0, 0, lane); load_bt<24>(rb, b, 0, 0, lane); }
    else { load_a<24>(ra, a, 0, 0, lane); load_b<24>(rb, b, 0, 0, lane); }
    for (int n = 0; n < 2; n++)
    {
        float d[4] = { 0.f, 0.f, 0.f, 0.f };
        mma(d, ra, rb[2 * n], rb[2 * n + 1]);
        for (int i = 0; i < 4; i++) g.y[(lane / 4 + (i >> 1) * 8) * 16 + n * 8 + lane % 4 * 2 + (i & 1)] = d[i];
    }
}
extern "C" __global__ void __launch_bounds__(32) product_plain(const ProductArgs g) { product<false>(g); }
extern "C" __global__ void __launch_bounds__(32) product_transposed(const ProductArgs g) { product<true>(g); }

// y[16 x 16] = x[16 x 16] x[16 x 16] in tf32.
extern "C" __global__ void product_tf32(const ProbeArgs g)
{
    float d[2][4] = {};
    mma_tf32_16(d, g.x, 16, g.x, 16, threadIdx.x);
    for (int n = 0; n < 2; n++)
        for (int i = 0; i < 4; i++) g.y[(threadIdx.x / 4 + (i >> 1) * 8) * 16 + n * 8 + threadIdx.x % 4 * 2 + (i & 1)] = d[n][i];
}

// ---- faults

extern "C" __global__ void some_never_arrive(const ProbeArgs g)
{
    if (threadIdx.x >= 40) return;
    __syncthreads();
    g.y[threadIdx.x] = 1.f;
}

extern "C" __global__ void two_barriers(const ProbeArgs g)
{
    if (threadIdx.x < 32)
        __syncthreads();
    else
    {
        g.y[threadIdx.x] = 1.f;
        __syncthreads();
    }
}

extern "C" __global__ void part_of_a_warp(const ProbeArgs g)
{
    if (threadIdx.x < 20) g.y[threadIdx.x] = __shfl_xor_sync(0xFFFFFFFFu, 1.f, 1);
}

extern "C" __global__ void past_the_end(const ProbeArgs g) { g.y[g.n + threadIdx.x] = 1.f; }
extern "C" __global__ void before_the_start(const ProbeArgs g) { g.y[-1 - (int)threadIdx.x] = 1.f; }
extern "C" __global__ void past_dynamic_shared(const ProbeArgs g)
{
    DYNAMIC_SHARED(raw);
    ((float*)raw)[g.n + threadIdx.x] = 1.f;
}
extern "C" __global__ void past_static_shared(const ProbeArgs g)
{
    __shared__ float room[32];
    room[g.n + threadIdx.x] = 1.f;
    g.y[threadIdx.x] = room[g.n];
}
extern "C" __global__ void far_outside(const ProbeArgs g) { g.y[(i64)1 << 40] = 1.f; }
extern "C" __global__ void misaligned(const ProbeArgs g) { *(float4*)(g.y + 1) = make_float4(1.f, 2.f, 3.f, 4.f); }

// A shared value is read without a barrier after its write.
extern "C" __global__ void no_barrier_before_read(const ProbeArgs g)
{
    __shared__ float room[64];
    room[threadIdx.x] = 1.f;
    g.y[threadIdx.x] = room[threadIdx.x ^ 32];
}
// A shared value is overwritten without a barrier after it was read.
extern "C" __global__ void no_barrier_before_write(const ProbeArgs g)
{
    DYNAMIC_SHARED(raw);
    float* room = (float*)raw;
    for (int i = 0; i < 2; i++)
    {
        room[threadIdx.x] = i;
        __syncthreads();
        g.y[threadIdx.x] = room[threadIdx.x ^ 32];
    }
}
// Lanes of a warp need __syncwarp, shuffles do not order memory.
extern "C" __global__ void no_syncwarp(const ProbeArgs g)
{
    __shared__ float room[32];
    room[threadIdx.x] = 1.f;
    float x = __shfl_xor_sync(0xFFFFFFFFu, 1.f, 1);
    g.y[threadIdx.x] = x + room[threadIdx.x ^ 1];
}
extern "C" __global__ void with_syncwarp(const ProbeArgs g)
{
    __shared__ float room[32];
    for (int i = 0; i < 3; i++)
    {
        room[threadIdx.x] = i;
        __syncwarp();
        g.y[threadIdx.x] = room[threadIdx.x ^ 1];
        __syncwarp();
    }
}
// Two blocks write the same element, and one reads what the other writes.
extern "C" __global__ void blocks_write_the_same(const ProbeArgs g) { g.y[threadIdx.x] = 1.f; }
extern "C" __global__ void a_block_reads_anothers(const ProbeArgs g)
{
    float x = blockIdx.x == 0 ? 0.f : g.y[0];
    if (blockIdx.x == 0) g.y[threadIdx.x] = 1.f;
    else g.y[32 + threadIdx.x] = x;
}
// The last block that comes adds up what all wrote: ordered by the counter in x.
extern "C" __global__ void last_block_adds_up(const ProbeArgs g)
{
    __shared__ int position;
    if (threadIdx.x == 0)
    {
        g.y[1 + blockIdx.x] = blockIdx.x + 1.f;
        __threadfence();
        position = atomicAdd((int*)g.x, 1);
    }
    __syncthreads();
    if (position == (int)gridDim.x - 1 && threadIdx.x == 0)
    {
        float sum = 0.f;
        for (int i = 0; i < (int)gridDim.x; i++) sum += g.y[1 + i];
        g.y[0] = sum;
    }
}
// What cp.async fetches is read before cp_wait, though behind a barrier.
extern "C" __global__ void no_wait_before_read(const ProbeArgs g)
{
    __shared__ __align__(16) float room[128];
    cp16(room + threadIdx.x * 4, g.x + threadIdx.x * 4, true);
    cp_commit();
    __syncthreads();
    g.y[threadIdx.x] = room[threadIdx.x * 4];
}
// Two groups under way, the older one is used: x into y, pieces of 16 bytes.
extern "C" __global__ void pipeline(const ProbeArgs g)
{
    __shared__ __align__(16) float room[2][128];
    int rounds = (int)(g.n / 128);
    for (int i = 0; i < rounds + 1; i++)
    {
        if (i < rounds) cp16(room[i & 1] + threadIdx.x * 4, g.x + i * 128 + threadIdx.x * 4, true);
        cp_commit();
        if (i > 0)
        {
            cp_wait<1>();
            __syncthreads();
            for (int k = threadIdx.x; k < 128; k += 32) g.y[(i - 1) * 128 + k] = room[(i - 1) & 1][127 - k];
            __syncthreads();
        }
    }
}
