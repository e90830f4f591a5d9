#include "delta_rule_common.cuh"

// prepare: one block per chunk and head makes everything that does not depend on the state: T, P and the scalars.

// Bytes of q and k, reused for the inverse and its scratch.
template <int K> __host__ __device__ constexpr int prepare_front() { return C * (K + PAD) * 4 > (C * (C + 4) + 960) * 4 ? C * (K + PAD) * 4 : (C * (C + 4) + 960) * 4; }

// Per token: wn, en exp(c) / |k|, exp(c), exp(c_C - c) / |k|.  As float4 arrays [batch, chunks, heads, C].
struct PrepareArgs
{
    const bf16 *q, *k; const float *beta, *logdecay;   // [tokens, keyHeads, K], [tokens, heads]
    const int2* chunks;                                // first token and length of every chunk
    bf16 *tmat, *pmat; float4 *scalars, *scalars2;     // [chunks, heads, C, C], [chunks, heads, C]; scalars2 (for the backward) may be null
    int rule, H, HK;
};

template <int K>
__device__ __forceinline__ void prepare(const PrepareArgs& g)
{
    constexpr int LK = K + PAD;
    extern __shared__ __align__(16) unsigned char raw[];
    bf16* sq = reinterpret_cast<bf16*>(raw);
    bf16* sk = sq + C * LK;
    float* sa = reinterpret_cast<float*>(raw + prepare_front<K>());   // [C][C + 4]
    float* s_en = sa + C * (C + 4);
    float* s_c = s_en + C;
    float* s_inv = s_c + C;
    constexpr int LA = C + 4;
    const int h = blockIdx.y, hk = h / (g.H / g.HK), n = g.chunks[blockIdx.x].y;
    const i64 t0 = g.chunks[blockIdx.x].x, tile = (i64)blockIdx.x * g.H + h;
    const int tid = threadIdx.x, warp = tid >> 5, lane = tid & 31;
    for (int i = tid; i < C * (K / 8); i += 256)
    {
        int r = i / (K / 8), c8 = i % (K / 8) * 8;
        bool valid = r < n;
        i64 at = ((t0 + (valid ? r : 0)) * g.HK + hk) * K + c8;
        cp16(sq + r * LK + c8, g.q + at, valid);
        cp16(sk + r * LK + c8, g.k + at, valid);
    }
    cp_commit();
    cp_wait<0>();
    __syncthreads();
    {   // four threads per token
        int r = tid >> 2, part = tid & 3;
        float lambda = 0.f;
        for (int j = part * 8; j < K; j += 32)
            for (int i = 0; i < 8; i++) { float v = to_float(sk[r * LK + j + i]); lambda += v * v; }
        lambda += __shfl_xor_sync(~0u, lambda, 1);
        lambda += __shfl_xor_sync(~0u, lambda, 2);
        if (part == 0)
        {
            Scalars s = {0.f, 0.f, 0.f, 0.f};
            if (r < n)
            {
                i64 at = (t0 + r) * g.H + h;
                s = coefficients(g.rule, lambda, g.beta ? g.beta[at] : 1.f, g.logdecay ? g.logdecay[at] : 0.f);
            }
            s_en[r] = s.en;
            s_c[r] = s.logg;
            s_inv[r] = s.inv;
            sa[r] = s.wn;   // parked in the (still unused) matrix
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
        float c = s_c[tid], last = s_c[C - 1], gamma = expf(c);
        g.scalars[tile * C + tid] = make_float4(sa[tid], s_en[tid] * gamma * s_inv[tid], gamma, expf(last - c) * s_inv[tid]);
        if (g.scalars2) g.scalars2[tile * C + tid] = make_float4(s_en[tid], s_inv[tid], c, last);
    }
    __syncthreads();
    // Gram matrix and Q K^T: warps 0-3 rows of K, 4-7 rows of Q; each 16 x 64.
    {
        const bf16* left = warp < 4 ? sk : sq;
        int row0 = (warp & 3) * 16;
        float acc[8][4] = {};
        for (int k0 = 0; k0 < K; k0 += 16)
        {
            u32 a[4], bb[4];
            load_a<LK>(a, left, row0, k0, lane);
            for (int j = 0; j < 4; j++)
            {
                if (j * 16 > row0) continue;
                load_bt<LK>(bb, sk, k0, j * 16, lane);
                mma(acc[2 * j], a, bb[0], bb[1]);
                mma(acc[2 * j + 1], a, bb[2], bb[3]);
            }
        }
        int r0 = row0 + (lane >> 2), c0 = (lane & 3) * 2;
        for (int j = 0; j < 8; j++)
            for (int half = 0; half < 2; half++)
            {
                int r = r0 + half * 8, col = j * 8 + c0;
                float cr = s_c[r];
                float v0 = acc[j][half * 2] * s_inv[col], v1 = acc[j][half * 2 + 1] * s_inv[col + 1];
                if (warp < 4)
                {
                    float er = s_en[r] * s_inv[r];
                    sa[r * LA + col] = col < r ? er * v0 * __expf(cr - s_c[col]) : 0.f;
                    sa[r * LA + col + 1] = col + 1 < r ? er * v1 * __expf(cr - s_c[col + 1]) : 0.f;
                }
                else
                {
                    v0 = col <= r ? v0 * __expf(cr - s_c[col]) : 0.f;
                    v1 = col + 1 <= r ? v1 * __expf(cr - s_c[col + 1]) : 0.f;
                    *reinterpret_cast<u32*>(g.pmat + tile * C * C + r * C + col) = pack(v0, v1);
                }
            }
    }
    __syncthreads();
    // T = (I + A)^-1, blockwise in float32. Diagonal 16 x 16 blocks: one column per thread, 64 threads.
    float* st = reinterpret_cast<float*>(raw);   // [C][LA], over q and k
    for (int i = tid; i < C * LA; i += 256) st[i] = 0.f;
    __syncthreads();
    if (tid < C)
    {
        int blk = tid >> 4, col = tid & 15, o = blk * 16;
        float x[16];
#pragma unroll
        for (int r = 0; r < 16; r++)
        {
            float v = r == col ? 1.f : 0.f;
#pragma unroll
            for (int i = 0; i < 16; i++) if (i < r) v -= sa[(o + r) * LA + o + i] * x[i];
            x[r] = v;
            st[(o + r) * LA + o + col] = v;
        }
    }
    __syncthreads();
    // Off-diagonal blocks by distance d: T_ij = -T_ii sum_{j<=m<i} A_im T_mj, one warp per block, tf32 products with float32 accumulation.
    float* tmp = st + C * LA;   // [3][16][20], still over q and k
    for (int d = 1; d < 4; d++)
    {
        if (warp < 4 - d)
        {
            int j = warp, i = warp + d;
            float acc[2][4] = {};
            for (int m = j; m < i; m++) mma_tf32_16(acc, sa + (i * 16) * LA + m * 16, LA, st + (m * 16) * LA + j * 16, LA, lane);
            float* my = tmp + j * 320;
            int r = lane >> 2, c = (lane & 3) * 2;
            for (int x = 0; x < 2; x++)
                for (int half = 0; half < 2; half++)
                {
                    my[(r + half * 8) * 20 + x * 8 + c] = acc[x][half * 2];
                    my[(r + half * 8) * 20 + x * 8 + c + 1] = acc[x][half * 2 + 1];
                }
            __syncwarp();
            float out[2][4] = {};
            mma_tf32_16(out, st + (i * 16) * LA + i * 16, LA, my, 20, lane);
            for (int x = 0; x < 2; x++)
                for (int half = 0; half < 2; half++)
                {
                    st[(i * 16 + r + half * 8) * LA + j * 16 + x * 8 + c] = -out[x][half * 2];
                    st[(i * 16 + r + half * 8) * LA + j * 16 + x * 8 + c + 1] = -out[x][half * 2 + 1];
                }
        }
        __syncthreads();
    }
    for (int i = tid; i < C * C / 2; i += 256)
    {
        int r = i / (C / 2), c2 = i % (C / 2) * 2;
        *reinterpret_cast<u32*>(g.tmat + tile * C * C + r * C + c2) = pack(st[r * LA + c2], st[r * LA + c2 + 1]);
    }
}

#define DELTA_PREPARE(K) \
    extern "C" __global__ void __launch_bounds__(256) delta_prepare_##K(const PrepareArgs g) { prepare<K>(g); }
