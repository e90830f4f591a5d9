#include "elements.cuh"
#include "mma.cuh"
#include "delta_rule_common.cuh"
#include "delta_rule_rules.cuh"

// prepare: one block per chunk and head makes everything that does not depend on the state: T, P and the scalars. Many small blocks, for it is all waiting:
// six fit on a multiprocessor, because A and T take the place of keys and queries.
// Blocks of one chunk follow each other, since its heads lie side by side in memory.
struct PrepareArgs
{
    const bf16 *q, *k; const float *beta, *logdecay;   // [tokens, keyHeads, K], [tokens, heads]
    const int2* chunks;                                // first token and length of every chunk
    bf16 *tmat, *pmat;                                 // [chunks, heads, C, C]
    float4 *scalars, *scalars2;                        // [chunks, heads, C]; scalars2, for the backward, may be null
    int rule, H, HK;
};

constexpr int THREADS = 128;
constexpr int PAD = 8;         // bf16 elements added to each row of a plain tile: ldmatrix then touches every bank once
constexpr int LA = C + 4;   // floats between rows of A and T

// 16 x 8 += 16 x 16 times 16 x 8, as mma_tf32_16.
// Each operand is a tf32 number and the tf32 number nearest to the rest: one alone (11 bits) would show in the gradients of long raw keys.
__device__ __forceinline__ void mma_tf32_8(float (&d)[4], const float* a, const float* b, int lane)
{
    const int r = lane >> 2, c = lane & 3;
#pragma unroll
    for (int k0 = 0; k0 < 16; k0 += 8)
    {
        const float x[4] = { a[r * LA + k0 + c], a[(r + 8) * LA + k0 + c], a[r * LA + k0 + c + 4], a[(r + 8) * LA + k0 + c + 4] };
        const float y[2] = { b[(k0 + c) * LA + r], b[(k0 + c + 4) * LA + r] };
        u32 x0[4], x1[4], y0[2], y1[2];
#pragma unroll
        for (int i = 0; i < 4; i++) { x0[i] = tf32(x[i]); x1[i] = tf32(x[i] - __uint_as_float(x0[i])); }
#pragma unroll
        for (int i = 0; i < 2; i++) { y0[i] = tf32(y[i]); y1[i] = tf32(y[i] - __uint_as_float(y0[i])); }
        mma_tf32(d, x1[0], x1[1], x1[2], x1[3], y0[0], y0[1]);
        mma_tf32(d, x0[0], x0[1], x0[2], x0[3], y1[0], y1[1]);
        mma_tf32(d, x0[0], x0[1], x0[2], x0[3], y0[0], y0[1]);
    }
}
__device__ __forceinline__ void store_8(float* to, const float (&d)[4], float sign, int lane)
{
    to += (lane >> 2) * LA + (lane & 3) * 2;
    *reinterpret_cast<float2*>(to) = make_float2(sign * d[0], sign * d[1]);
    *reinterpret_cast<float2*>(to + 8 * LA) = make_float2(sign * d[2], sign * d[3]);
}

// The rows and columns of a warp's tiles that this lane holds, times what the exponents of decay and the columns' keys ask for: f(row, column, two products as they
// are, with the factors of columns). Rules without decay spare the exponentials.
template <bool DECAYS, typename F> __device__ __forceinline__ void each_pair(float (&acc)[8][4], const float* c, const float* inv, int row0, int lane, F f)
{
    const int r = row0 + (lane >> 2), c0 = (lane & 3) * 2;
    const float own[2] = { DECAYS ? c[r] : 0.f, DECAYS ? c[r + 8] : 0.f };
#pragma unroll
    for (int j = 0; j < 8; j++)
    {
        const int col = j * 8 + c0;
        const float2 factor = *reinterpret_cast<const float2*>(inv + col), sum = DECAYS ? *reinterpret_cast<const float2*>(c + col) : make_float2(0.f, 0.f);
#pragma unroll
        for (int half = 0; half < 2; half++)
        {
            float x = acc[j][half * 2] * factor.x, y = acc[j][half * 2 + 1] * factor.y;
            if (DECAYS)
            {
                x *= __expf(own[half] - sum.x);
                y *= __expf(own[half] - sum.y);
            }
            f(r + half * 8, col, x, y);
        }
    }
}
template <typename F> __device__ __forceinline__ void each_pair(bool decays, float (&acc)[8][4], const float* c, const float* inv, int row0, int lane, F f)
{
    if (decays) each_pair<true>(acc, c, inv, row0, lane, f);
    else each_pair<false>(acc, c, inv, row0, lane, f);
}

// left K^T for 16 rows and the first BLOCKS times 16 columns, in tiles of 8.
template <int K, int LK, int BLOCKS> __device__ __forceinline__ void key_products(float (&acc)[8][4], const bf16* left, const bf16* keys, int row0, int lane)
{
#pragma unroll 2
    for (int k0 = 0; k0 < K; k0 += 16)
    {
        u32 a[4], b[BLOCKS][4];
        load_a<LK>(a, left, row0, k0, lane);
#pragma unroll
        for (int j = 0; j < BLOCKS; j++) load_bt<LK>(b[j], keys, k0, j * 16, lane);
#pragma unroll
        for (int j = 0; j < BLOCKS; j++)
        {
            mma(acc[2 * j], a, b[j][0], b[j][1]);
            mma(acc[2 * j + 1], a, b[j][2], b[j][3]);
        }
    }
}
// As many blocks as reach the diagonal; each number has code of its own, in which loads need not wait for branches.
template <int K, int LK> __device__ __forceinline__ void lower_products(float (&acc)[8][4], const bf16* left, const bf16* keys, int row0, int lane)
{
    switch (row0 / 16)
    {
        case 0: key_products<K, LK, 1>(acc, left, keys, row0, lane); break;
        case 1: key_products<K, LK, 2>(acc, left, keys, row0, lane); break;
        case 2: key_products<K, LK, 3>(acc, left, keys, row0, lane); break;
        default: key_products<K, LK, 4>(acc, left, keys, row0, lane); break;
    }
}

template <int K>
__device__ __forceinline__ void prepare(const PrepareArgs& g)
{
    constexpr int LK = K + PAD;
    DYNAMIC_SHARED(raw);
    __shared__ __align__(16) float s_en[C], s_wn[C], s_c[C], s_inv[C];
    bf16* sq = reinterpret_cast<bf16*>(raw);
    bf16* sk = sq + C * LK;
    float* sa = reinterpret_cast<float*>(raw);   // A, over q and k; blocks above its diagonal are scratch
    float* st = sa + C * LA;                     // T
    const int chunk = blockIdx.x / g.H, h = blockIdx.x % g.H, hk = h / (g.H / g.HK), n = g.chunks[chunk].y;
    const i64 t0 = g.chunks[chunk].x, tile = blockIdx.x;
    const int tid = threadIdx.x, warp = tid >> 5, lane = tid & 31;
    for (int i = tid; i < C * (K / 8); i += THREADS)
    {
        const int r = i / (K / 8), c8 = i % (K / 8) * 8;
        const bool valid = r < n;
        const i64 at = ((t0 + (valid ? r : 0)) * g.HK + hk) * K + c8;
        cp16(sk + r * LK + c8, g.k + at, valid);
        cp16(sq + r * LK + c8, g.q + at, valid);
    }
    cp_commit();
    cp_wait<0>();
    __syncthreads();
    {   // two threads per token
        const int r = tid >> 1;
        float lambda = 0.f;
        for (int j = (tid & 1) * 8; j < K; j += 16)
        {
            const uint4 piece = *reinterpret_cast<const uint4*>(sk + r * LK + j);
            const bf16x2* pairs = reinterpret_cast<const bf16x2*>(&piece);
#pragma unroll
            for (int i = 0; i < 4; i++) { const float2 v = to_float2(pairs[i]); lambda += v.x * v.x + v.y * v.y; }
        }
        lambda += __shfl_xor_sync(~0u, lambda, 1);
        if ((tid & 1) == 0)
        {
            Scalars s = {0.f, 0.f, 0.f, 0.f};
            if (r < n)
            {
                const i64 at = (t0 + r) * g.H + h;
                s = coefficients(g.rule, lambda, g.beta ? g.beta[at] : 1.f, g.logdecay ? g.logdecay[at] : 0.f);
            }
            s_en[r] = s.en;
            s_wn[r] = s.wn;
            s_c[r] = s.logg;
            s_inv[r] = s.inv;
        }
    }
    __syncthreads();
    if (warp == 0)
    {   // running sum of 64 log decays
        float x0 = s_c[2 * lane], x1 = s_c[2 * lane + 1], sum = x0 + x1;
        for (int d = 1; d < 32; d <<= 1) { float y = __shfl_up_sync(~0u, sum, d); if (lane >= d) sum += y; }
        s_c[2 * lane + 1] = sum;
        s_c[2 * lane] = sum - x1;
    }
    __syncthreads();
    if (tid < C)
    {
        const float c = s_c[tid], last = s_c[C - 1], gamma = expf(c);
        g.scalars[tile * C + tid] = make_float4(s_wn[tid], s_en[tid] * gamma * s_inv[tid], gamma, expf(last - c) * s_inv[tid]);
        if (g.scalars2) g.scalars2[tile * C + tid] = make_float4(s_en[tid], s_inv[tid], c, last);
    }
    const bool decays = g.logdecay != nullptr;
    {   // P, 16 rows a warp: written over the warp's own queries, and from there in whole rows
        const int row0 = (3 - warp) * 16;   // the longest rows for the warp whose keys come first: five blocks of 16 x 16 for everyone
        float acc[8][4] = {};
        lower_products<K, LK>(acc, sq, sk, row0, lane);
        __syncwarp();
        each_pair(decays, acc, s_c, s_inv, row0, lane, [&](int r, int col, float x, float y)
        {
            *reinterpret_cast<u32*>(sq + r * LK + col) = pack(col <= r ? x : 0.f, col + 1 <= r ? y : 0.f);
        });
        __syncwarp();
#pragma unroll
        for (int i = 0; i < 16 * C / 8; i += 32)
        {
            const int r = row0 + (lane + i) / (C / 8), c8 = (lane + i) % (C / 8) * 8;
            *reinterpret_cast<uint4*>(g.pmat + tile * C * C + r * C + c8) = *reinterpret_cast<const uint4*>(sq + r * LK + c8);
        }
    }
    {   // A
        const int row0 = warp * 16;
        float acc[8][4] = {};
        lower_products<K, LK>(acc, sk, sk, row0, lane);
        __syncthreads();   // keys and queries are used up
        const float e0 = s_en[row0 + (lane >> 2)] * s_inv[row0 + (lane >> 2)], e1 = s_en[row0 + (lane >> 2) + 8] * s_inv[row0 + (lane >> 2) + 8];
        each_pair(decays, acc, s_c, s_inv, row0, lane, [&](int r, int col, float x, float y)
        {
            const float e = r & 8 ? e1 : e0;   // rows of a warp begin at a multiple of 16
            if ((col & ~7) < row0 + 16) *reinterpret_cast<float2*>(sa + r * LA + col) = make_float2(col < r ? e * x : 0.f, col + 1 < r ? e * y : 0.f);
        });
    }
    __syncthreads();
    // T = (I + A)^-1, blockwise in float32. Diagonal 16 x 16 blocks: one column per thread, 64 threads; four sums side by side.
    if (tid < C)
    {
        const int col = tid & 15, o = (tid >> 4) * 16;
        float x[16] = {};
#pragma unroll
        for (int r = 0; r < 16; r++)
        {
            float v[4] = { r == col ? 1.f : 0.f, 0.f, 0.f, 0.f };
#pragma unroll
            for (int i = 0; i < r; i += 4)
            {
                const float4 a = *reinterpret_cast<const float4*>(sa + (o + r) * LA + o + i);   // zero from the diagonal on
                v[0] -= a.x * x[i];
                v[1] -= a.y * x[i + 1];
                v[2] -= a.z * x[i + 2];
                v[3] -= a.w * x[i + 3];
            }
            x[r] = (v[0] + v[1]) + (v[2] + v[3]);
            st[(o + r) * LA + o + col] = x[r];
        }
    }
    __syncthreads();
    // Two diagonal blocks become one of 32 x 32: T_ij = -T_ii A_ij T_jj, half of the columns per warp.
    {
        const int j = (warp >> 1) * 32, i = j + 16, n0 = (warp & 1) * 8;
        float* scratch = sa + j * LA + i + n0;
        float y[4] = {}, out[4] = {};
        mma_tf32_8(y, sa + i * LA + j, st + j * LA + j + n0, lane);
        store_8(scratch, y, 1.f, lane);
        __syncwarp();
        mma_tf32_8(out, st + i * LA + i, scratch, lane);
        store_8(st + i * LA + j + n0, out, -1.f, lane);
    }
    __syncthreads();
    // And two of those the whole, one block of 16 x 16 per warp: Y = A_10 T_00, then T_10 = -T_11 Y.
    const int i = (warp >> 1) * 16, j = (warp & 1) * 16;
    float* y = sa + 32;
#pragma unroll
    for (int half = 0; half < 2; half++)
    {
        float d[4] = {};
        for (int m = j; m < 32; m += 16) mma_tf32_8(d, sa + (32 + i) * LA + m, st + m * LA + j + half * 8, lane);
        store_8(y + i * LA + j + half * 8, d, 1.f, lane);
    }
    __syncthreads();
#pragma unroll
    for (int half = 0; half < 2; half++)
    {
        float d[4] = {};
        for (int m = 0; m <= i; m += 16) mma_tf32_8(d, st + (32 + i) * LA + 32 + m, y + m * LA + j + half * 8, lane);
        store_8(st + (32 + i) * LA + j + half * 8, d, -1.f, lane);
    }
    __syncthreads();
    for (int piece = tid; piece < C * C / 8; piece += THREADS)
    {
        const int r = piece / (C / 8), c8 = piece % (C / 8) * 8;
        const float4 *from = reinterpret_cast<const float4*>(st + r * LA + c8), zero = make_float4(0.f, 0.f, 0.f, 0.f);
        const bool written = c8 < (r & ~15) + 16;   // blocks above the diagonal are not
        const float4 a = written ? from[0] : zero, b = written ? from[1] : zero;
        *reinterpret_cast<uint4*>(g.tmat + tile * C * C + r * C + c8) = make_uint4(pack(a.x, a.y), pack(a.z, a.w), pack(b.x, b.y), pack(b.z, b.w));
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 6) delta_prepare_64(const PrepareArgs g) { prepare<64>(g); }
extern "C" __global__ void __launch_bounds__(THREADS, 6) delta_prepare_128(const PrepareArgs g) { prepare<128>(g); }
