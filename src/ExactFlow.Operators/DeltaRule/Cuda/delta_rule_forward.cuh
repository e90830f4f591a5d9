#include "wgmma.cuh"
#include "delta_rule_common.cuh"

// scan: one block per head and slice of 64 value columns walks the chunks; the state never leaves the chip.
// With segments, several blocks share a sequence: each segment's exact map is found first, combine gives every segment its true start.

template <int K> struct Stage { bf16 q[K / 64][TILE]; bf16 k[K / 64][TILE]; bf16 v[TILE]; bf16 t[TILE]; bf16 p[TILE]; float4 s[C]; };
constexpr int STAGES = 3;   // chunks in shared memory: one in work, two on their way

template <int K> struct ScanShared { Stage<K> stage[STAGES]; bf16 state[K / 64][TILE]; bf16 x[TILE]; bf16 u[TILE]; bf16 us[TILE]; };

struct ScanArgs
{
    const bf16 *q, *k, *v, *tmat, *pmat; const float4* scalars;
    const int2 *chunks, *ranges;   // first token and length of every chunk; first and one-past-last chunk of every (sequence, segment)
    const float* initial;          // FULL: [sequences, segments, heads, K, V] or null
    bf16* out; float* final_state; // FULL: state after each sequence [sequences, heads, K, V] or null; otherwise each segment's state from zero
    bf16 *boundary, *uout;         // states before each chunk [chunks, heads, K, V] and U, for the backward; null when not wanted
    float* transition;             // each segment's K x K map [sequences, segments, heads, K, K]
    float scale; int H, HK, V, segments;
};

template <int K, bool FULL, int WG>
__device__ __forceinline__ void scan_consumer(const ScanArgs& g, ScanShared<K>& sm, bool map, int first, int last, int seq, int seg, int h, int v0, int tid)
{
    constexpr bool owner = WG < K / 64;   // of 64 rows of the state
    const int lane = tid & 31, row = (tid >> 5) * 16 + (lane >> 2), c2 = (lane & 3) * 2;
    float s[32];
    zero(s);
    const i64 at = ((((i64)seq * g.segments + seg) * g.H + h) * K + WG * 64 + row) * g.V + v0 + c2;
    const i64 end = FULL ? (((i64)seq * g.H + h) * K + WG * 64 + row) * g.V + v0 + c2 : at;   // FULL: only the last segment's end is wanted
    if (owner && map)
    {
#pragma unroll
        for (int i = 0; i < 32; i++) s[i] = WG * 64 + row + ((i >> 1) & 1) * 8 == v0 + (i >> 2) * 8 + c2 + (i & 1) ? 1.f : 0.f;
    }
    else if (owner && FULL && g.initial)
    {
#pragma unroll
        for (int i = 0; i < 32; i++) s[i] = g.initial[at + ((i >> 1) & 1) * 8 * g.V + (i >> 2) * 8 + (i & 1)];
    }
    for (int chunk = first; chunk < last; chunk++)
    {
        Stage<K>& st = sm.stage[(chunk - first) % STAGES];
        const int2 span = g.chunks[chunk];
        if constexpr (owner) store_tile(sm.state[WG], s, row, c2);
        proxy_fence();
        bar<1>(384);   // A
        const float4 sc0 = st.s[row], sc1 = st.s[row + 8];
        const float gamma = st.s[C - 1].z;
        float acc[32];
        zero(acc);
        if constexpr (WG == 0)
        {
            wg_fence();
#pragma unroll
            for (int i = 0; i < K / 64; i++) product64<0, 1>(acc, st.k[i], sm.state[i]);
            wg_commit();
            wg_wait<0>();
#pragma unroll
            for (int j = 0; j < 8; j++)
#pragma unroll
                for (int half = 0; half < 2; half++)
                {
                    const float4 sc = half ? sc1 : sc0;
                    float2 vv = map ? make_float2(0.f, 0.f) : tile2(st.v, row + half * 8, j * 8 + c2);
                    *reinterpret_cast<u32*>(sm.x + swz(row + half * 8, j * 8 + c2)) =
                        pack(sc.x * vv.x - sc.y * acc[j * 4 + half * 2], sc.x * vv.y - sc.y * acc[j * 4 + half * 2 + 1]);
                }
            proxy_fence();
            bar<4>(128);
            zero(acc);
            wg_fence();
            product64<0, 1>(acc, st.t, sm.x);
            wg_commit();
            wg_wait<0>();
            if (FULL) store_tile(sm.u, acc, row, c2);
            if (FULL && g.uout)
            {
#pragma unroll
                for (int half = 0; half < 2; half++)
                {
                    const int r = row + half * 8;
                    bf16* dst = g.uout + ((i64)(span.x + r) * g.H + h) * g.V + v0 + c2;
                    if (r < span.y)
#pragma unroll
                        for (int j = 0; j < 8; j++) *reinterpret_cast<u32*>(dst + j * 8) = pack(acc[j * 4 + half * 2], acc[j * 4 + half * 2 + 1]);
                }
            }
#pragma unroll
            for (int i = 0; i < 32; i++) acc[i] *= (i & 2) ? sc1.w : sc0.w;
            store_tile(sm.us, acc, row, c2);
            proxy_fence();
        }
        else if constexpr (FULL)
        {
            wg_fence();
#pragma unroll
            for (int i = 0; i < K / 64; i++) product64<0, 1>(acc, st.q[i], sm.state[i]);
            wg_commit();
            wg_wait<0>();
#pragma unroll
            for (int i = 0; i < 32; i++) acc[i] *= (i & 2) ? sc1.z : sc0.z;
        }
        bar<2>(384);   // U
        if constexpr (owner)
        {
#pragma unroll
            for (int i = 0; i < 32; i++) s[i] *= gamma;
            wg_fence();
            product64<1, 1>(s, st.k[WG], sm.us);
            wg_commit();
        }
        if constexpr (FULL && WG == 1)
        {
            wg_fence();
            product64<0, 1>(acc, st.p, sm.u);
            wg_commit();
        }
        wg_wait<0>();
        bar<3>(384);
        if constexpr (FULL && WG == 1)
        {
#pragma unroll
            for (int half = 0; half < 2; half++)
            {
                const int r = row + half * 8;
                bf16* dst = g.out + ((i64)(span.x + r) * g.H + h) * g.V + v0 + c2;
                if (r < span.y)
#pragma unroll
                    for (int j = 0; j < 8; j++) *reinterpret_cast<u32*>(dst + j * 8) = pack(g.scale * acc[j * 4 + half * 2], g.scale * acc[j * 4 + half * 2 + 1]);
            }
        }
    }
    if constexpr (owner)
    {
        float* dst = map ? g.transition + ((((i64)seq * g.segments + seg) * g.H + h) * K + WG * 64 + row) * K + v0 + c2 : g.final_state && (!FULL || seg + 1 == g.segments) ? g.final_state + end : nullptr;
        const int ld = map ? K : g.V;
        if (dst)
#pragma unroll
            for (int i = 0; i < 32; i++) dst[((i >> 1) & 1) * 8 * ld + (i >> 2) * 8 + (i & 1)] = s[i];
    }
}

// Three warpgroups: 0 walks the chain (K S, X, T X, its half of the state), 1 makes the output (Q S, P U, the other half), 2 loads ahead.
// FULL: states in `initial` and `final_state` are [batch, heads, segments, K, V]; TRANSITION: no output; slices past V start from the identity and carry the segment's map.
template <int K, bool FULL>
__device__ __forceinline__ void scan(const ScanArgs& g)
{
    DYNAMIC_SHARED(raw);
    ScanShared<K>& sm = *reinterpret_cast<ScanShared<K>*>(raw + ((1024 - (smem_u32(raw) & 1023)) & 1023));
    const int seq = blockIdx.x / g.segments, seg = blockIdx.x % g.segments, h = blockIdx.y, slice = blockIdx.z;
    const int first = g.ranges[blockIdx.x].x, last = g.ranges[blockIdx.x].y, hk = h / (g.H / g.HK);
    const bool map = !FULL && slice >= g.V / 64;
    const int v0 = map ? (slice - g.V / 64) * 64 : slice * 64;
    const int wg = threadIdx.x >> 7, tid = threadIdx.x & 127;
    if (wg == 2)
    {
        auto fetch = [&](int chunk)
        {
            if (chunk < last)
            {
                Stage<K>& st = sm.stage[(chunk - first) % STAGES];
                const int n = g.chunks[chunk].y;
                const i64 t0 = g.chunks[chunk].x, base = t0 * g.H + h, keys = (t0 * g.HK + hk) * K, tile = (i64)chunk * g.H + h;
#pragma unroll
                for (int i = 0; i < K / 64; i++)
                {
                    fetch_tile(st.k[i], g.k + keys + i * 64, (i64)g.HK * K, n, tid);
                    if (FULL) fetch_tile(st.q[i], g.q + keys + i * 64, (i64)g.HK * K, n, tid);
                }
                if (!map) fetch_tile(st.v, g.v + base * g.V + v0, (i64)g.H * g.V, n, tid);
                fetch_tile(st.t, g.tmat + tile * TILE, 64, 64, tid);
                if (FULL) fetch_tile(st.p, g.pmat + tile * TILE, 64, 64, tid);
                if (tid < C) cp16(&st.s[tid], g.scalars + tile * C + tid, true);
            }
            cp_commit();   // past the end too, so that a chunk is always the same number of groups behind
        };
        fetch(first);
        fetch(first + 1);
        for (int chunk = first; chunk < last; chunk++)
        {
            fetch(chunk + 2);   // where chunk - 1 was
            cp_wait<2>();
            proxy_fence();
            bar<1>(384);   // A: stage and state ready
            if (FULL && g.boundary)
            {
                bf16* dst = g.boundary + ((i64)chunk * g.H + h) * K * g.V + v0;
                for (int i = tid; i < K * 8; i += 128)
                {
                    int r = i >> 3, c8 = (i & 7) * 8;
                    *reinterpret_cast<uint4*>(dst + (i64)r * g.V + c8) = *reinterpret_cast<const uint4*>(sm.state[0] + swz(r, c8));
                }
            }
            bar<2>(384);   // U: the state was read, U is ready
            bar<3>(384);   // end of the chunk: its stage is free
        }
        return;
    }
    if (wg == 0) scan_consumer<K, FULL, 0>(g, sm, map, first, last, seq, seg, h, v0, tid);
    else scan_consumer<K, FULL, 1>(g, sm, map, first, last, seq, seg, h, v0, tid);
}

// Start states of all segments from each one's map and its state from zero: S_{j+1} = M_j S_j + Z_j, in place (Z becomes the start states). One block per head and 16 value columns.
// BACK: from the last segment to the first with the transposed maps (states are then gradients at the segments' ends).
struct CombineArgs { const float *transition, *zero_states, *initial; float* starts; int H, V, segments; };

template <int K> struct CombineShared { float map[2][K][K + 4]; float s[K][20]; };

template <int K> __device__ __forceinline__ void fetch_map(float (&map)[K][K + 4], const float* from, int tid)
{
    for (int i = tid; i < K * K / 4; i += 256) cp16(&map[i / (K / 4)][i % (K / 4) * 4], from + i * 4, true);
    cp_commit();
}

template <int K, bool BACK>
__device__ __forceinline__ void combine(const CombineArgs& g)
{
    DYNAMIC_SHARED(raw);
    CombineShared<K>& sm = *reinterpret_cast<CombineShared<K>*>(raw);
    const int h = blockIdx.y, v0 = blockIdx.z * 16, tid = threadIdx.x, n = g.segments;
    const i64 seq = blockIdx.x, head = seq * g.H + h;
    // Each thread: rows of one quarter column group, so that a row of the map is read once for four columns.
    const int c4 = (tid & 3) * 4, r0 = tid >> 2;
    constexpr int PER = K / 64;
    for (int i = tid; i < K * 16; i += 256) sm.s[i >> 4][i & 15] = g.initial ? g.initial[(head * K + (i >> 4)) * g.V + v0 + (i & 15)] : 0.f;
    auto place = [&](int step) { return (seq * n + (BACK ? n - 1 - step : step)) * g.H + h; };
    if (n > 1) fetch_map<K>(sm.map[0], g.transition + place(0) * K * K, tid);
    for (int step = 0; step < n; step++)
    {
        __syncthreads();
        for (int i = tid; i < K * 16; i += 256) g.starts[(place(step) * K + (i >> 4)) * g.V + v0 + (i & 15)] = sm.s[i >> 4][i & 15];
        if (step + 1 == n) return;
        if (step + 2 < n) { fetch_map<K>(sm.map[(step + 1) & 1], g.transition + place(step + 1) * K * K, tid); cp_wait<1>(); }
        else cp_wait<0>();
        __syncthreads();
        const float(&map)[K][K + 4] = sm.map[step & 1];
        float4 acc[PER];
#pragma unroll
        for (int p = 0; p < PER; p++) acc[p] = *reinterpret_cast<const float4*>(g.zero_states + (place(step) * K + r0 + p * 64) * g.V + v0 + c4);
#pragma unroll 8
        for (int i = 0; i < K; i++)
        {
            const float4 x = *reinterpret_cast<const float4*>(&sm.s[i][c4]);
#pragma unroll
            for (int p = 0; p < PER; p++)
            {
                const float m = BACK ? map[i][r0 + p * 64] : map[r0 + p * 64][i];
                acc[p].x += m * x.x;
                acc[p].y += m * x.y;
                acc[p].z += m * x.z;
                acc[p].w += m * x.w;
            }
        }
        __syncthreads();
#pragma unroll
        for (int p = 0; p < PER; p++) *reinterpret_cast<float4*>(&sm.s[r0 + p * 64][c4]) = acc[p];
    }
}

#define DELTA_FORWARD(K) \
    extern "C" __global__ void __launch_bounds__(384, 1) delta_scan_##K(const ScanArgs g) { scan<K, true>(g); } \
    extern "C" __global__ void __launch_bounds__(384, 1) delta_segments_##K(const ScanArgs g) { scan<K, false>(g); } \
    extern "C" __global__ void __launch_bounds__(256) delta_combine_##K(const CombineArgs g) { combine<K, false>(g); } \
    extern "C" __global__ void __launch_bounds__(256) delta_combine_back_##K(const CombineArgs g) { combine<K, true>(g); }
