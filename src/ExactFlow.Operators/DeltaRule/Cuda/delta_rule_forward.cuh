#include "elements.cuh"
#include "wgmma.cuh"
#include "delta_rule_common.cuh"

// scan: one block per head and W slices of 64 value columns walks the chunks; the state never leaves the chip. A warpgroup does everything for its slice and the
// last one loads ahead for all: the slices share queries, keys, T and P, but wait for each other only at the beginning of a chunk, so that one multiplies while
// another rounds and stores.
// With segments, several blocks share a sequence: each segment's exact map is found first, combine gives every segment its true start.
template <int K, int W> struct ScanShared
{
    struct { bf16 q[K / 64][TILE]; bf16 k[K / 64][TILE]; bf16 t[TILE]; bf16 p[TILE]; bf16 v[W][TILE]; float4 s[C]; } stage[STAGES<W>];
    struct { bf16 state[K / 64][TILE]; bf16 x[TILE]; bf16 u[TILE]; bf16 us[TILE]; } slice[W];   // us: U as the state's update takes it
};

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

// Where a block stands: its chunks, and W slices of columns. Without FULL, slices past V are columns of the segment's map.
struct ScanPlace { int seq, seg, h, first, last; };

template <int K, int W, bool FULL, int WG>
__device__ __forceinline__ void scan_slice(const ScanArgs& g, ScanShared<K, W>& sm, const ScanPlace& at, bool idle, bool map, int v0, int tid)
{
    constexpr int N = K / 64;
    const int lane = tid & 31, row = (tid >> 5) * 16 + (lane >> 2), c2 = (lane & 3) * 2;
    auto& own = sm.slice[WG];
    const i64 place = ((((i64)at.seq * g.segments + at.seg) * g.H + at.h) * K + row) * g.V + v0 + c2;
    float s[N][32];
#pragma unroll
    for (int i = 0; i < N; i++)
#pragma unroll
        for (int e = 0; e < 32; e++)
        {
            const int r = i * 64 + ((e >> 1) & 1) * 8, c = (e >> 2) * 8 + (e & 1);
            s[i][e] = map ? (row + r == v0 + c2 + c ? 1.f : 0.f) : FULL && g.initial ? g.initial[place + (i64)r * g.V + c] : 0.f;
        }
    for (int chunk = at.first; chunk < at.last; chunk++)
    {
        const auto& st = sm.stage[(chunk - at.first) % STAGES<W>];
        const int2 span = g.chunks[chunk];
#pragma unroll
        for (int i = 0; i < N; i++) store_tile(own.state[i], s[i], row, c2);
        proxy_fence();
        bar<1>((W + 1) * 128);   // the chunk is there, and the one before it used up
        if (idle) continue;
        const float4 sc0 = st.s[row], sc1 = st.s[row + 8];
        const float gamma = st.s[C - 1].z;
        float acc[32], o[32];
        zero(acc);
        zero(o);
        wg_fence();
#pragma unroll
        for (int i = 0; i < N; i++) product64<0, 1>(acc, st.k[i], own.state[i]);
        wg_commit();
        if constexpr (FULL)
        {
#pragma unroll
            for (int i = 0; i < N; i++) product64<0, 1>(o, st.q[i], own.state[i]);
            wg_commit();
        }
        if (FULL && g.boundary)
        {
#pragma unroll
            for (int i = 0; i < N; i++) copy_tile(g.boundary + (((i64)chunk * g.H + at.h) * K + i * 64) * g.V + v0, own.state[i], g.V, 64, tid);
        }
        wg_wait<FULL ? 1 : 0>();
#pragma unroll
        for (int j = 0; j < 8; j++)
#pragma unroll
            for (int half = 0; half < 2; half++)
            {
                const float4 sc = half ? sc1 : sc0;
                float2 vv = map ? make_float2(0.f, 0.f) : tile2(st.v[WG], row + half * 8, j * 8 + c2);
                *reinterpret_cast<u32*>(own.x + swz(row + half * 8, j * 8 + c2)) =
                    pack(sc.x * vv.x - sc.y * acc[j * 4 + half * 2], sc.x * vv.y - sc.y * acc[j * 4 + half * 2 + 1]);
            }
        proxy_fence();
        bar<2 + WG>(128);
        zero(acc);
        wg_fence();
        product64<0, 1>(acc, st.t, own.x);
        wg_commit();
        wg_wait<0>();
        if (FULL) store_tile(own.u, acc, row, c2);
#pragma unroll
        for (int i = 0; i < 32; i++) acc[i] *= (i & 2) ? sc1.w : sc0.w;
        store_tile(own.us, acc, row, c2);
        proxy_fence();
        bar<2 + WG>(128);
#pragma unroll
        for (int i = 0; i < N; i++)
#pragma unroll
            for (int e = 0; e < 32; e++) s[i][e] *= gamma;
#pragma unroll
        for (int e = 0; e < 32; e++) o[e] *= (e & 2) ? sc1.z : sc0.z;
        wg_fence();
#pragma unroll
        for (int i = 0; i < N; i++) product64<1, 1>(s[i], st.k[i], own.us);
        if constexpr (FULL) product64<0, 1>(o, st.p, own.u);
        wg_commit();
        if (FULL && g.uout) copy_tile(g.uout + ((i64)span.x * g.H + at.h) * g.V + v0, own.u, (i64)g.H * g.V, span.y, tid);
        wg_wait<0>();
        if constexpr (FULL) write_rows(g.out + ((i64)span.x * g.H + at.h) * g.V + v0, o, g.scale, (i64)g.H * g.V, span.y, row, c2);
    }
    if (idle) return;
    const i64 end = FULL ? (((i64)at.seq * g.H + at.h) * K + row) * g.V + v0 + c2 : place;   // FULL: only the last segment's end is wanted
    float* dst = map ? g.transition + ((((i64)at.seq * g.segments + at.seg) * g.H + at.h) * K + row) * K + v0 + c2
                     : g.final_state && (!FULL || at.seg + 1 == g.segments) ? g.final_state + end : nullptr;
    const int ld = map ? K : g.V;
    if (dst)
#pragma unroll
        for (int i = 0; i < N; i++)
#pragma unroll
            for (int e = 0; e < 32; e++) dst[(i64)(i * 64 + ((e >> 1) & 1) * 8) * ld + (e >> 2) * 8 + (e & 1)] = s[i][e];
}

template <int K, int W, bool FULL> __device__ __forceinline__ void scan_load(const ScanArgs& g, ScanShared<K, W>& sm, const ScanPlace& at, int slice, int tid)
{
    const int hk = at.h / (g.H / g.HK);
    auto fetch = [&](int chunk)
    {
        if (chunk < at.last)
        {
            auto& st = sm.stage[(chunk - at.first) % STAGES<W>];
            const int n = g.chunks[chunk].y;
            const i64 t0 = g.chunks[chunk].x, base = t0 * g.H + at.h, keys = (t0 * g.HK + hk) * K, tile = (i64)chunk * g.H + at.h;
#pragma unroll
            for (int i = 0; i < K / 64; i++) fetch_tile(st.k[i], g.k + keys + i * 64, (i64)g.HK * K, n, tid);
#pragma unroll
            for (int w = 0; w < W; w++)
                if ((slice + w) * 64 < g.V) fetch_tile(st.v[w], g.v + base * g.V + (slice + w) * 64, (i64)g.H * g.V, n, tid);
            fetch_tile(st.t, g.tmat + tile * TILE, 64, 64, tid);
            if (tid < C) cp16(&st.s[tid], g.scalars + tile * C + tid, true);
            if (FULL)
            {
#pragma unroll
                for (int i = 0; i < K / 64; i++) fetch_tile(st.q[i], g.q + keys + i * 64, (i64)g.HK * K, n, tid);
                fetch_tile(st.p, g.pmat + tile * TILE, 64, 64, tid);
            }
        }
        cp_commit();   // past the end too, so that a chunk is always the same number of groups behind
    };
    for (int i = 0; i + 1 < STAGES<W>; i++) fetch(at.first + i);
    for (int chunk = at.first; chunk < at.last; chunk++)
    {
        cp_wait<STAGES<W> - 2>();
        proxy_fence();
        bar<1>((W + 1) * 128);
        fetch(chunk + STAGES<W> - 1);
    }
}

template <int K, int W, bool FULL>
__device__ __forceinline__ void scan(const ScanArgs& g)
{
    DYNAMIC_SHARED(raw);
    ScanShared<K, W>& sm = *reinterpret_cast<ScanShared<K, W>*>(raw + ((1024 - (smem_u32(raw) & 1023)) & 1023));
    const ScanPlace at = { (int)blockIdx.x / g.segments, (int)blockIdx.x % g.segments, (int)blockIdx.y, g.ranges[blockIdx.x].x, g.ranges[blockIdx.x].y };
    const int wg = threadIdx.x >> 7, tid = threadIdx.x & 127, slice = blockIdx.z * W + wg, values = g.V / 64;
    if (wg == W)
    {
        if constexpr (W > 1) lower_registers<40>();
        scan_load<K, W, FULL>(g, sm, at, blockIdx.z * W, tid);
        return;
    }
    if constexpr (W > 1) raise_registers<232>();
    const bool map = !FULL && slice >= values, idle = slice >= values + (FULL ? 0 : K / 64);
    const int v0 = (map ? slice - values : slice) * 64;
    if (wg == 0) scan_slice<K, W, FULL, 0>(g, sm, at, idle, map, v0, tid);
    else scan_slice<K, W, FULL, W - 1>(g, sm, at, idle, map, v0, tid);
}

// Start states of all segments from each one's map and its state from zero: S_{j+1} = M_j S_j + Z_j. A block has 8 value columns of a head, two threads a row; the next
// two maps are on their way while one is applied.
// BACK: from the last segment to the first with the transposed maps (states are then gradients at the segments' ends).
struct CombineArgs { const float *transition, *zero_states, *initial; float* starts; int H, V, segments; };

constexpr int MAPS = 3, COMBINED = 8;
template <int K> struct CombineShared { float map[MAPS][K][K + 4]; float s[K][COMBINED]; };

template <int K, bool BACK>
__device__ __forceinline__ void combine(const CombineArgs& g)
{
    DYNAMIC_SHARED(raw);
    CombineShared<K>& sm = *reinterpret_cast<CombineShared<K>*>(raw);
    const int h = blockIdx.y, v0 = blockIdx.z * COMBINED, tid = threadIdx.x, n = g.segments, row = tid >> 1, c4 = (tid & 1) * 4;
    const i64 seq = blockIdx.x, at = (i64)row * g.V + v0 + c4;
    auto place = [&](int step) { return (seq * n + (BACK ? n - 1 - step : step)) * g.H + h; };
    auto fetch = [&](int step)
    {
        if (step + 1 < n)
            for (int i = tid; i < K * K / 4; i += 2 * K) cp16(&sm.map[step % MAPS][i / (K / 4)][i % (K / 4) * 4], g.transition + place(step) * K * K + i * 4, true);
        cp_commit();   // past the end too, so that a map is always the same number of groups behind
    };
    fetch(0);
    fetch(1);
    float4 state = g.initial ? *reinterpret_cast<const float4*>(g.initial + (seq * g.H + h) * K * g.V + at) : make_float4(0.f, 0.f, 0.f, 0.f);
    for (int step = 0;; step++)
    {
        *reinterpret_cast<float4*>(g.starts + place(step) * K * g.V + at) = state;
        if (step + 1 == n) return;
        *reinterpret_cast<float4*>(&sm.s[row][c4]) = state;
        state = *reinterpret_cast<const float4*>(g.zero_states + place(step) * K * g.V + at);
        cp_wait<1>();
        __syncthreads();   // the map and the state are there, and the map before it used up
        fetch(step + 2);
        const float(&map)[K][K + 4] = sm.map[step % MAPS];
#pragma unroll 4
        for (int i0 = 0; i0 < K; i0 += 4)
        {
            float m[4];
            if constexpr (BACK)
            {
#pragma unroll
                for (int i = 0; i < 4; i++) m[i] = map[i0 + i][row];
            }
            else Piece<float>::load(m, &map[row][i0]);
#pragma unroll
            for (int i = 0; i < 4; i++)
            {
                const float4 x = *reinterpret_cast<const float4*>(&sm.s[i0 + i][c4]);
                state.x = fmaf(m[i], x.x, state.x);
                state.y = fmaf(m[i], x.y, state.y);
                state.z = fmaf(m[i], x.z, state.z);
                state.w = fmaf(m[i], x.w, state.w);
            }
        }
        __syncthreads();   // the state may be overwritten
    }
}

#define DELTA_SCANS(K, W, threads) \
    extern "C" __global__ void __launch_bounds__(threads, 1) delta_scan_##K##x##W(const ScanArgs g) { scan<K, W, true>(g); } \
    extern "C" __global__ void __launch_bounds__(threads, 1) delta_segments_##K##x##W(const ScanArgs g) { scan<K, W, false>(g); }
#define DELTA_FORWARD(K) \
    DELTA_SCANS(K, 1, 256) \
    DELTA_SCANS(K, 2, 384) \
    extern "C" __global__ void __launch_bounds__(2 * K) delta_combine_##K(const CombineArgs g) { combine<K, false>(g); } \
    extern "C" __global__ void __launch_bounds__(2 * K) delta_combine_back_##K(const CombineArgs g) { combine<K, true>(g); }
