#include "delta_rule_dscan.cuh"
#include "delta_rule_rules.cuh"

template <int K> struct GShared
{
    struct { bf16 q[K / 64][TILE]; bf16 k[K / 64][TILE]; } rows[2];
    struct { bf16 d[TILE]; bf16 u[TILE]; bf16 dx[TILE]; bf16 s0[K / 64][TILE]; bf16 g[K / 64][TILE]; } cols[2];
    bf16 p1[TILE], p2[TILE], w1[TILE], w2[TILE];   // afterwards the exchange of 64 x K floats
    float4 s2[2][C];                               // en, 1/|k|, c, c_C
    float dc[C], dg[C], dl[C], dwn[C], dcq[C], kug[C], frob[4];
};

__device__ __forceinline__ float quad_sum(float x) { x += __shfl_xor_sync(~0u, x, 1); return x + __shfl_xor_sync(~0u, x, 2); }

struct Item { int h, n; i64 t0, base, keys, tile; };
template <int K> __device__ __forceinline__ Item item_at(const BackArgs& g, int index)
{
    Item x;
    const int chunk = index / g.H;
    x.h = index % g.H;
    x.n = g.chunks[chunk].y;
    x.t0 = g.chunks[chunk].x;
    x.base = x.t0 * g.H + x.h;
    x.keys = (x.t0 * g.HK + x.h / (g.H / g.HK)) * K;
    x.tile = (i64)chunk * g.H + x.h;
    return x;
}
// The within-chunk matrix lower(m . Gamma) as operands: once with columns over |k| (one), once with rows times k2 (two). Rules without decay spare the exponentials.
template <bool STRICT, bool DECAYS> __device__ __forceinline__ void store_decayed(bf16* one, bf16* two, const float (&m)[32], const float4* s2, float scale, int row, int c2)
{
    const float4 f0 = s2[row], f1 = s2[row + 8];
#pragma unroll
    for (int j = 0; j < 8; j++)
    {
        const int col = j * 8 + c2;
        const float4 a = s2[col], b = s2[col + 1];
#pragma unroll
        for (int half = 0; half < 2; half++)
        {
            const int r = row + half * 8;
            const float4 f = half ? f1 : f0;
            const float k2 = STRICT ? -f.x * f.y : 1.f;
            const float x0 = (STRICT ? col < r : col <= r) ? scale * m[j * 4 + half * 2] * (DECAYS ? __expf(f.z - a.z) : 1.f) : 0.f;
            const float x1 = (STRICT ? col + 1 < r : col + 1 <= r) ? scale * m[j * 4 + half * 2 + 1] * (DECAYS ? __expf(f.z - b.z) : 1.f) : 0.f;
            *reinterpret_cast<u32*>(one + swz(r, col)) = pack(x0 * a.y, x1 * b.y);
            *reinterpret_cast<u32*>(two + swz(r, col)) = pack(x0 * k2, x1 * k2);
        }
    }
}
template <bool STRICT> __device__ __forceinline__ void store_decayed(bool decays, bf16* one, bf16* two, const float (&m)[32], const float4* s2, float scale, int row, int c2)
{
    if (decays) store_decayed<STRICT, true>(one, two, m, s2, scale, row, c2);
    else store_decayed<STRICT, false>(one, two, m, s2, scale, row, c2);
}
template <int N> __device__ __forceinline__ void scale_rows(float (&acc)[N][32], float z0, float z1)
{
#pragma unroll
    for (int i = 0; i < N; i++)
#pragma unroll
        for (int e = 0; e < 32; e++) acc[i][e] *= (e & 2) ? z1 : z0;
}
// Row sums of tile . acc for this thread's two rows.
template <int N> __device__ __forceinline__ float2 row_dots(const bf16 (&tile)[N][TILE], const float (&acc)[N][32], int row, int c2)
{
    float2 d = make_float2(0.f, 0.f);
#pragma unroll
    for (int i = 0; i < N; i++)
#pragma unroll
        for (int j = 0; j < 8; j++)
        {
            float2 a = tile2(tile[i], row, j * 8 + c2), b = tile2(tile[i], row + 8, j * 8 + c2);
            d.x += a.x * acc[i][j * 4] + a.y * acc[i][j * 4 + 1];
            d.y += b.x * acc[i][j * 4 + 2] + b.y * acc[i][j * 4 + 3];
        }
    return make_float2(quad_sum(d.x), quad_sum(d.y));
}

// The last slice of an item is free once the products with its columns are made, which bar 3 says, so that loading goes on under what follows. The rows of the
// item after next would be loaded there where every slice is the last: their place is in use until the item is done.
__device__ __forceinline__ bool frees_early(int slice, int slices) { return slices > 1 && slice + 1 == slices; }

// Loads one column slice ahead; meanwhile dV, v . dX and <G, S0>, which need no products.
template <int K> __device__ __forceinline__ void grads_load(const BackArgs& g, GShared<K>& sm, int items, int tid)
{
    constexpr int N = K / 64;
    const int slices = g.V / 64;
    int total = 0;
    for (int item = blockIdx.x; item < items; item += gridDim.x) total += slices;
    float dwn = 0.f, frob = 0.f;
    for (int step = 0; step <= total; step++)
    {
        if (step < total)
        {
            const int slice = step % slices, nth = step / slices, v0 = slice * 64;
            const Item x = item_at<K>(g, blockIdx.x + nth * gridDim.x);
            const int n = x.n;
            if (slice == 0)
            {
#pragma unroll
                for (int i = 0; i < N; i++)
                {
                    fetch_tile(sm.rows[nth & 1].k[i], g.k + x.keys + i * 64, (i64)g.HK * K, n, tid);
                    fetch_tile(sm.rows[nth & 1].q[i], g.q + x.keys + i * 64, (i64)g.HK * K, n, tid);
                }
                if (tid < C) cp16(&sm.s2[nth & 1][tid], g.scalars2 + x.tile * C + tid, true);
            }
            auto& st = sm.cols[step & 1];
            fetch_tile(st.d, g.dout + x.base * g.V + v0, (i64)g.H * g.V, n, tid);
            fetch_tile(st.u, g.u + x.base * g.V + v0, (i64)g.H * g.V, n, tid);
            fetch_tile(st.dx, g.dx + x.base * g.V + v0, (i64)g.H * g.V, n, tid);
#pragma unroll
            for (int i = 0; i < N; i++)
            {
                fetch_tile(st.s0[i], g.boundary + (x.tile * K + i * 64) * g.V + v0, g.V, 64, tid);
                fetch_tile(st.g[i], g.gbound + (x.tile * K + i * 64) * g.V + v0, g.V, 64, tid);
            }
            cp_commit();
        }
        if (step == 0) continue;
        const int done = step - 1, slice = done % slices;
        const Item x = item_at<K>(g, blockIdx.x + done / slices * gridDim.x);
        const int r = tid >> 1, cc = (tid & 1) * 32;
        const bool ok = r < x.n;
        uint4 vv[4];
        float wn = 0.f;
        if (ok)
        {
            const bf16* vp = g.v + (x.base + (i64)r * g.H) * g.V + slice * 64 + cc;
            wn = g.scalars[x.tile * C + r].x;
#pragma unroll
            for (int i = 0; i < 4; i++) vv[i] = *reinterpret_cast<const uint4*>(vp + i * 8);
        }
        if (step < total) cp_wait<1>(); else cp_wait<0>();
        proxy_fence();
        bar<1>(512);   // the slice is there
        auto& st = sm.cols[done & 1];
        if (ok)
        {
            bf16* dvp = g.dv + (x.base + (i64)r * g.H) * g.V + slice * 64 + cc;
#pragma unroll
            for (int i = 0; i < 4; i++)
            {
                uint4 xx = *reinterpret_cast<const uint4*>(st.dx + swz(r, cc + i * 8)), yy;
                const bf16x2 *va = reinterpret_cast<const bf16x2*>(&vv[i]), *xa = reinterpret_cast<const bf16x2*>(&xx);
                u32* ya = reinterpret_cast<u32*>(&yy);
#pragma unroll
                for (int e = 0; e < 4; e++)
                {
                    float2 fv = to_float2(va[e]), fx = to_float2(xa[e]);
                    dwn += fv.x * fx.x + fv.y * fx.y;
                    ya[e] = pack(wn * fx.x, wn * fx.y);
                }
                *reinterpret_cast<uint4*>(dvp + i * 8) = yy;
            }
        }
        if (g.gated)
            for (int i = tid; i < K * 8; i += 128)
            {
                uint4 a = reinterpret_cast<const uint4*>(st.s0[0])[i], b = reinterpret_cast<const uint4*>(st.g[0])[i];
                const bf16x2 *pa = reinterpret_cast<const bf16x2*>(&a), *pb = reinterpret_cast<const bf16x2*>(&b);
#pragma unroll
                for (int e = 0; e < 4; e++)
                {
                    float2 fa = to_float2(pa[e]), fb = to_float2(pb[e]);
                    frob += fa.x * fb.x + fa.y * fb.y;
                }
            }
        if (slice + 1 == slices)
        {
            dwn += __shfl_xor_sync(~0u, dwn, 1);
            if ((tid & 1) == 0) sm.dwn[r] = dwn;
            for (int o = 16; o; o >>= 1) frob += __shfl_xor_sync(~0u, frob, o);
            if ((tid & 31) == 0) sm.frob[tid >> 5] = frob;
            dwn = frob = 0.f;
            bar<3>(512);
        }
        if (!frees_early(slice, slices)) bar<2>(512);   // the slice (and after an item's last, its rows) is used up
    }
}

// dQ
template <int K> __device__ __forceinline__ void grads_q(const BackArgs& g, GShared<K>& sm, int items, int tid)
{
    constexpr int N = K / 64;
    const int slices = g.V / 64, lane = tid & 31, row = (tid >> 5) * 16 + (lane >> 2), c2 = (lane & 3) * 2;
    int step = 0, nth = 0;
    for (int index = blockIdx.x; index < items; index += gridDim.x, nth++)
    {
        const Item x = item_at<K>(g, index);
        auto& rows = sm.rows[nth & 1];
        const float4* s2 = sm.s2[nth & 1];
        float acc[N][32], m[32];
#pragma unroll
        for (int i = 0; i < N; i++) zero(acc[i]);
        zero(m);
        for (int slice = 0; slice < slices; slice++, step++)
        {
            auto& st = sm.cols[step & 1];
            bar<1>(512);
            wg_fence();
            product64<0, 0>(m, st.d, st.u);
#pragma unroll
            for (int i = 0; i < N; i++) product64<0, 0>(acc[i], st.d, st.s0[i]);
            wg_commit();
            wg_wait<0>();
            if (slice + 1 < slices) bar<2>(512);
        }
        store_decayed<false>(g.gated, sm.p1, sm.p2, m, s2, g.scale, row, c2);
        scale_rows<N>(acc, g.scale * __expf(s2[row].z), g.scale * __expf(s2[row + 8].z));
        proxy_fence();
        bar<3>(512);   // P, W and scalars are there
        wg_fence();
#pragma unroll
        for (int i = 0; i < N; i++) product64<0, 1>(acc[i], sm.p1, rows.k[i]);
        wg_commit();
        wg_wait<0>();
        bar<4>(384);   // P and W may be overwritten
        if (g.gated)
        {
            const float2 d = row_dots<N>(rows.q, acc, row, c2);
            if ((lane & 3) == 0) { sm.dcq[row] = d.x; sm.dcq[row + 8] = d.y; }
        }
        bar<4>(384);   // the exchange is filled
#pragma unroll
        for (int half = 0; half < 2; half++)
            if (row + half * 8 < x.n)
            {
                bf16* dst = g.dq + (x.base + (i64)(row + half * 8) * g.H) * K + c2;
#pragma unroll
                for (int i = 0; i < N; i++)
#pragma unroll
                    for (int j = 0; j < 8; j++) *reinterpret_cast<u32*>(dst + i * 64 + j * 8) = pack(acc[i][j * 4 + half * 2], acc[i][j * 4 + half * 2 + 1]);
            }
        if (!frees_early(slices - 1, slices)) bar<2>(512);
    }
}

// What reaches the keys as writers: scale Pm^T Q + exp(c_C - c) U G^T - (en W)^T Kn, handed to grads_k.
template <int K> __device__ __forceinline__ void grads_w(const BackArgs& g, GShared<K>& sm, int items, int tid)
{
    constexpr int N = K / 64;
    const int slices = g.V / 64, lane = tid & 31, row = (tid >> 5) * 16 + (lane >> 2), c2 = (lane & 3) * 2;
    int step = 0, nth = 0;
    float* exchange = reinterpret_cast<float*>(sm.p1);   // [64][K], columns rotated by row to spread banks
    for (int index = blockIdx.x; index < items; index += gridDim.x, nth++)
    {
        auto& rows = sm.rows[nth & 1];
        const float4* s2 = sm.s2[nth & 1];
        float acc[N][32];
#pragma unroll
        for (int i = 0; i < N; i++) zero(acc[i]);
        for (int slice = 0; slice < slices; slice++, step++)
        {
            auto& st = sm.cols[step & 1];
            bar<1>(512);
            wg_fence();
#pragma unroll
            for (int i = 0; i < N; i++) product64<0, 0>(acc[i], st.u, st.g[i]);
            wg_commit();
            wg_wait<0>();
            if (slice + 1 < slices) bar<2>(512);
        }
        const float4 f0 = s2[row], f1 = s2[row + 8];
        scale_rows<N>(acc, __expf(f0.w - f0.z), __expf(f1.w - f1.z));
        if (g.gated)
        {
            const float2 d = row_dots<N>(rows.k, acc, row, c2);
            if ((lane & 3) == 0) { sm.kug[row] = d.x * f0.y; sm.kug[row + 8] = d.y * f1.y; }
        }
        bar<3>(512);
        wg_fence();
#pragma unroll
        for (int i = 0; i < N; i++) { product64<1, 1>(acc[i], sm.p2, rows.q[i]); product64<1, 1>(acc[i], sm.w2, rows.k[i]); }
        wg_commit();
        wg_wait<0>();
        bar<4>(384);
#pragma unroll
        for (int i = 0; i < N; i++)
#pragma unroll
            for (int e = 0; e < 32; e += 2)
            {
                const int r = row + ((e >> 1) & 1) * 8, col = i * 64 + (e >> 2) * 8 + c2;
                *reinterpret_cast<float2*>(exchange + r * K + ((col + r * 8) & (K - 1))) = make_float2(acc[i][e], acc[i][e + 1]);
            }
        bar<4>(384);
        if (!frees_early(slices - 1, slices)) bar<2>(512);
    }
}

// E, then everything about keys and scalars.
template <int K> __device__ __forceinline__ void grads_k(const BackArgs& g, GShared<K>& sm, int items, int tid)
{
    constexpr int N = K / 64;
    const int slices = g.V / 64, lane = tid & 31, row = (tid >> 5) * 16 + (lane >> 2), c2 = (lane & 3) * 2;
    int step = 0, nth = 0;
    const float* exchange = reinterpret_cast<const float*>(sm.p1);
    for (int index = blockIdx.x; index < items; index += gridDim.x, nth++)
    {
        const Item x = item_at<K>(g, index);
        auto& rows = sm.rows[nth & 1];
        const float4* s2 = sm.s2[nth & 1];
        float acc[N][32], m[32];
#pragma unroll
        for (int i = 0; i < N; i++) zero(acc[i]);
        zero(m);
        for (int slice = 0; slice < slices; slice++, step++)
        {
            auto& st = sm.cols[step & 1];
            bar<1>(512);
            wg_fence();
            product64<0, 0>(m, st.dx, st.u);
#pragma unroll
            for (int i = 0; i < N; i++) product64<0, 0>(acc[i], st.dx, st.s0[i]);
            wg_commit();
            wg_wait<0>();
            if (slice + 1 < slices) bar<2>(512);
        }
        store_decayed<true>(g.gated, sm.w1, sm.w2, m, s2, 1.f, row, c2);
        scale_rows<N>(acc, __expf(s2[row].z), __expf(s2[row + 8].z));
        float beta[2], ld[2];
#pragma unroll
        for (int half = 0; half < 2; half++)
        {
            const bool ok = row + half * 8 < x.n;
            const i64 token = x.base + (i64)(row + half * 8) * g.H;
            beta[half] = ok && g.beta ? g.beta[token] : 1.f;
            ld[half] = ok && g.logdecay ? g.logdecay[token] : 0.f;
        }
        proxy_fence();
        bar<3>(512);
        wg_fence();
#pragma unroll
        for (int i = 0; i < N; i++) product64<0, 1>(acc[i], sm.w1, rows.k[i]);
        wg_commit();
        wg_wait<0>();
        bar<4>(384);
        bar<4>(384);
#pragma unroll
        for (int half = 0; half < 2; half++)
        {
            const int r = row + half * 8;
            const float4 f = s2[r];
            float ke = 0.f, kw = 0.f;
#pragma unroll
            for (int i = 0; i < N; i++)
#pragma unroll
                for (int j = 0; j < 8; j++)
                {
                    const int col = i * 64 + j * 8 + c2, e = j * 4 + half * 2;
                    float2 w = *reinterpret_cast<const float2*>(exchange + r * K + ((col + r * 8) & (K - 1))), kk = tile2(rows.k[i], r, j * 8 + c2);
                    float e0 = -acc[i][e], e1 = -acc[i][e + 1];
                    ke += kk.x * e0 + kk.y * e1;
                    kw += kk.x * w.x + kk.y * w.y;
                    acc[i][e] = f.x * e0 + w.x;
                    acc[i][e + 1] = f.x * e1 + w.y;
                }
            ke = quad_sum(ke) * f.y;   // kn . E
            kw = quad_sum(kw) * f.y;
            const bool ok = r < x.n;
            const i64 token = x.base + (i64)r * g.H;
            const Derivatives d = derivatives(g.rule, 1.f / (f.y * f.y), beta[half], ld[half]);
            const float dwn = sm.dwn[r];
            const float along = 2.f * (ke * d.en_lambda + dwn * d.wn_lambda) / f.y - (f.x * ke + kw) * f.y;   // through |k|^2, minus what a unit key cannot follow
            if (ok)
            {
                bf16* dst = g.dk + token * K + c2;
#pragma unroll
                for (int i = 0; i < N; i++)
#pragma unroll
                    for (int j = 0; j < 8; j++)
                    {
                        const int e = j * 4 + half * 2;
                        float2 kk = tile2(rows.k[i], r, j * 8 + c2);
                        float s = along * f.y;
                        *reinterpret_cast<u32*>(dst + i * 64 + j * 8) = pack(f.y * acc[i][e] + s * kk.x, f.y * acc[i][e + 1] + s * kk.y);
                    }
            }
            if ((lane & 3) == 0)
            {
                if (ok && g.dbeta) g.dbeta[token] = ke * d.en_beta + dwn * d.wn_beta;
                sm.dc[r] = sm.dcq[r] + f.x * ke - kw;   // without the last token's extra
                sm.dg[r] = d.logg_ld;
                sm.dl[r] = ke * d.en_ld + dwn * d.wn_ld;
            }
        }
        if (g.gated && g.dlog)
        {
            bar<5>(128);
            if (tid < 32)
            {   // d logg_r = sum over r' >= r of dc_r'
                float a0 = sm.dc[2 * tid], a1 = sm.dc[2 * tid + 1], extra = sm.kug[2 * tid] + sm.kug[2 * tid + 1];
                for (int o = 16; o; o >>= 1) extra += __shfl_xor_sync(~0u, extra, o);
                extra += expf(s2[0].w) * (sm.frob[0] + sm.frob[1] + sm.frob[2] + sm.frob[3]);
                if (tid == 31) a1 += extra;
                float sum = a0 + a1;
                for (int o = 1; o < 32; o <<= 1) { float y = __shfl_down_sync(~0u, sum, o); if (tid + o < 32) sum += y; }
                for (int e = 0; e < 2; e++)
                {
                    int r = 2 * tid + e;
                    if (r < x.n) g.dlog[x.base + (i64)r * g.H] = (e ? sum - a0 : sum) * sm.dg[r] + sm.dl[r];
                }
            }
        }
        if (!frees_early(slices - 1, slices)) bar<2>(512);
    }
}

template <int K>
__device__ __forceinline__ void grads(const BackArgs& g)
{
    DYNAMIC_SHARED(raw);
    GShared<K>& sm = *reinterpret_cast<GShared<K>*>(raw + ((1024 - (smem_u32(raw) & 1023)) & 1023));
    const int items = g.total_chunks * g.H, wg = threadIdx.x >> 7, tid = threadIdx.x & 127;
    if (wg == 3)
    {
        lower_registers<72>();
        grads_load<K>(g, sm, items, tid);
    }
    else
    {
        raise_registers<144>();
        if (wg == 0) grads_q<K>(g, sm, items, tid);
        else if (wg == 1) grads_k<K>(g, sm, items, tid);
        else grads_w<K>(g, sm, items, tid);
    }
}

// dq and dk of key heads that several value heads share: [tokens, heads, K] summed to [tokens, keyHeads, K], in the heads' order.
struct SumHeadsArgs { const bf16x2* from; bf16x2* to; i64 count; int H, HK, K2; };
extern "C" __global__ void delta_sum_heads(const SumHeadsArgs g)
{
    const int group = g.H / g.HK;
    for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < g.count; i += (i64)gridDim.x * blockDim.x)
    {
        const i64 row = i / g.K2, column = i % g.K2;
        float2 sum = make_float2(0.f, 0.f);
        for (int j = 0; j < group; j++)
        {
            float2 x = to_float2(g.from[(row * group + j) * g.K2 + column]);
            sum.x += x.x;
            sum.y += x.y;
        }
        g.to[i].bits = pack(sum.x, sum.y);
    }
}

#define DELTA_DSCANS(K, W, threads) \
    extern "C" __global__ void __launch_bounds__(threads, 1) delta_dscan_##K##x##W(const BackArgs g) { dscan<K, W, true>(g); } \
    extern "C" __global__ void __launch_bounds__(threads, 1) delta_dsegments_##K##x##W(const BackArgs g) { dscan<K, W, false>(g); }
#define DELTA_BACKWARD(K) \
    DELTA_DSCANS(K, 1, 256) \
    DELTA_DSCANS(K, 2, 384) \
    extern "C" __global__ void __launch_bounds__(512, 1) delta_grads_##K(const BackArgs g) { grads<K>(g); }
