#include "wgmma.cuh"
#include "delta_rule_common.cuh"

// dscan walks the chunks from last to first carrying G = dL/dS on chip:
//     dU = scale P^T dO + exp(c_C - c) Kn G       dX = T^T dU       G <- exp(c_C) G + scale (exp(c) Q)^T dO - Kn^T (en exp(c) dX)
// and writes dX and G at each chunk's end. grads then computes, for every chunk at once, what needs all value columns:
//     dQ   = scale ( exp(c) dO S0^T + Pm Kn )                       Pm = lower(dO U^T . Gamma)
//     E    = -( W Kn + exp(c) dX S0^T )                             W = strict_lower(dX U^T . Gamma)
//     dKn  = en E + [ scale Pm^T Q + exp(c_C - c) U G^T - (en W)^T Kn ]
//     den  = kn . E       dwn = v . dX       dV = wn dX
//     dc   = q . dq + en kn . E - kn . [...]    (+ at the last token: exp(c_C) <G, S0> + sum kn . exp(c_C - c) U G^T)
struct BackArgs
{
    const bf16 *q, *k, *v, *dout, *tmat, *pmat; const float4 *scalars, *scalars2; const int2 *chunks, *ranges;
    const float* grad_final;   // [sequences, segments, heads, K, V] or null
    float* grad_initial;       // FULL: [sequences, heads, K, V] or null; otherwise each segment's
    bf16 *gbound, *dx;         // G after each chunk [chunks, heads, K, V]; dX like v
    const bf16 *boundary, *u;  // kept by the forward
    bf16 *dq, *dk, *dv;        // dq and dk per value head [tokens, heads, K]
    float *dbeta, *dlog; const float *beta, *logdecay;
    float scale; int H, HK, V, segments, rule, gated, total_chunks;
};

template <int K, int W> struct DShared
{
    struct { bf16 q[K / 64][TILE]; bf16 k[K / 64][TILE]; bf16 t[TILE]; bf16 p[TILE]; bf16 d[W][TILE]; float4 s[C]; } stage[STAGES<W>];
    struct { bf16 state[K / 64][TILE]; bf16 du[TILE]; bf16 dxs[TILE]; bf16 dos[TILE]; } slice[W];
};

// One warpgroup does everything for its slice of 64 value columns, as in the forward.
template <int K, int W, bool FULL, int WG>
__device__ __forceinline__ void dscan_slice(const BackArgs& g, DShared<K, W>& sm, int first, int last, int seq, int seg, int h, int v0, int tid)
{
    constexpr int N = K / 64;
    const int lane = tid & 31, row = (tid >> 5) * 16 + (lane >> 2), c2 = (lane & 3) * 2;
    auto& own = sm.slice[WG];
    const i64 at = ((((i64)seq * g.segments + seg) * g.H + h) * K + row) * g.V + v0 + c2;
    float s[N][32];
#pragma unroll
    for (int i = 0; i < N; i++)
#pragma unroll
        for (int e = 0; e < 32; e++) s[i][e] = FULL && g.grad_final ? g.grad_final[at + (i64)(i * 64 + ((e >> 1) & 1) * 8) * g.V + (e >> 2) * 8 + (e & 1)] : 0.f;
    for (int chunk = last; chunk >= first; chunk--)
    {
        const auto& st = sm.stage[(last - chunk) % STAGES<W>];
        const int2 span = g.chunks[chunk];
#pragma unroll
        for (int i = 0; i < N; i++) store_tile(own.state[i], s[i], row, c2);
        proxy_fence();
        bar<1>((W + 1) * 128);   // the chunk is there, and the one after it used up
        const float4 sc0 = st.s[row], sc1 = st.s[row + 8];
        const float gamma = st.s[C - 1].z;
        float acc[32];
        zero(acc);
        wg_fence();
#pragma unroll
        for (int i = 0; i < N; i++) product64<0, 1>(acc, st.k[i], own.state[i]);
        wg_commit();
#pragma unroll
        for (int j = 0; j < 8; j++)
#pragma unroll
            for (int half = 0; half < 2; half++)
            {
                float z = g.scale * (half ? sc1.z : sc0.z);
                float2 d = tile2(st.d[WG], row + half * 8, j * 8 + c2);
                *reinterpret_cast<u32*>(own.dos + swz(row + half * 8, j * 8 + c2)) = pack(z * d.x, z * d.y);
            }
        wg_wait<0>();
        const float w0 = sc0.w / g.scale, w1 = sc1.w / g.scale;
#pragma unroll
        for (int i = 0; i < 32; i++) acc[i] *= (i & 2) ? w1 : w0;
        wg_fence();
        product64<1, 1>(acc, st.p, st.d[WG]);
        wg_commit();
        if (FULL)
        {
#pragma unroll
            for (int i = 0; i < N; i++) copy_tile(g.gbound + (((i64)chunk * g.H + h) * K + i * 64) * g.V + v0, own.state[i], g.V, 64, tid);
        }
        wg_wait<0>();
#pragma unroll
        for (int i = 0; i < 32; i++) acc[i] *= g.scale;
        store_tile(own.du, acc, row, c2);
        proxy_fence();
        bar<2 + WG>(128);
#pragma unroll
        for (int i = 0; i < N; i++)
#pragma unroll
            for (int e = 0; e < 32; e++) s[i][e] *= gamma;
        zero(acc);
        wg_fence();
        product64<1, 1>(acc, st.t, own.du);
        wg_commit();
#pragma unroll
        for (int i = 0; i < N; i++) product64<1, 1>(s[i], st.q[i], own.dos);
        wg_commit();
        wg_wait<1>();
        if (FULL) write_rows(g.dx + ((i64)span.x * g.H + h) * g.V + v0, acc, 1.f, (i64)g.H * g.V, span.y, row, c2);
#pragma unroll
        for (int i = 0; i < 32; i++) acc[i] *= (i & 2) ? -sc1.y : -sc0.y;
        store_tile(own.dxs, acc, row, c2);
        proxy_fence();
        bar<2 + WG>(128);
        wg_fence();
#pragma unroll
        for (int i = 0; i < N; i++) product64<1, 1>(s[i], st.k[i], own.dxs);
        wg_commit();
        wg_wait<0>();
    }
    if (g.grad_initial && (!FULL || seg == 0))
    {
        float* dst = g.grad_initial + (FULL ? (((i64)seq * g.H + h) * K + row) * g.V + v0 + c2 : at);
#pragma unroll
        for (int i = 0; i < N; i++)
#pragma unroll
            for (int e = 0; e < 32; e++) dst[(i64)(i * 64 + ((e >> 1) & 1) * 8) * g.V + (e >> 2) * 8 + (e & 1)] = s[i][e];
    }
}

// FULL: G of each segment's end from grad_final [batch, heads, segments, K, V]; writes dX and boundary gradients. Otherwise starts from zero and only writes the gradient at the segment's start.
template <int K, int W, bool FULL>
__device__ __forceinline__ void dscan(const BackArgs& g)
{
    DYNAMIC_SHARED(raw);
    DShared<K, W>& sm = *reinterpret_cast<DShared<K, W>*>(raw + ((1024 - (smem_u32(raw) & 1023)) & 1023));
    const int seq = blockIdx.x / g.segments, seg = blockIdx.x % g.segments, h = blockIdx.y, hk = h / (g.H / g.HK);
    const int first = g.ranges[blockIdx.x].x, last = g.ranges[blockIdx.x].y - 1;
    const int wg = threadIdx.x >> 7, tid = threadIdx.x & 127, v0 = blockIdx.z * W * 64;
    if (wg == W)
    {
        if constexpr (W > 1) lower_registers<40>();
        auto fetch = [&](int chunk)
        {
            if (chunk >= first)
            {
                auto& st = sm.stage[(last - chunk) % STAGES<W>];
                const int n = g.chunks[chunk].y;
                const i64 t0 = g.chunks[chunk].x, base = t0 * g.H + h, keys = (t0 * g.HK + hk) * K, tile = (i64)chunk * g.H + h;
#pragma unroll
                for (int i = 0; i < K / 64; i++)
                {
                    fetch_tile(st.k[i], g.k + keys + i * 64, (i64)g.HK * K, n, tid);
                    fetch_tile(st.q[i], g.q + keys + i * 64, (i64)g.HK * K, n, tid);
                }
#pragma unroll
                for (int w = 0; w < W; w++) fetch_tile(st.d[w], g.dout + base * g.V + v0 + w * 64, (i64)g.H * g.V, n, tid);
                fetch_tile(st.t, g.tmat + tile * TILE, 64, 64, tid);
                fetch_tile(st.p, g.pmat + tile * TILE, 64, 64, tid);
                if (tid < C) cp16(&st.s[tid], g.scalars + tile * C + tid, true);
            }
            cp_commit();   // past the end too, so that a chunk is always the same number of groups behind
        };
        for (int i = 0; i + 1 < STAGES<W>; i++) fetch(last - i);
        for (int chunk = last; chunk >= first; chunk--)
        {
            cp_wait<STAGES<W> - 2>();
            proxy_fence();
            bar<1>((W + 1) * 128);
            fetch(chunk - STAGES<W> + 1);
        }
        return;
    }
    if constexpr (W > 1) raise_registers<232>();
    if (wg == 0) dscan_slice<K, W, FULL, 0>(g, sm, first, last, seq, seg, h, v0, tid);
    else dscan_slice<K, W, FULL, W - 1>(g, sm, first, last, seq, seg, h, v0 + 64, tid);
}
