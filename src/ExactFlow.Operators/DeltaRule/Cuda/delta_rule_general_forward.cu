#include "delta_rule_general.cuh"

constexpr float SMALLEST_LOG = -1e4f;   // decays below e^-10000 per token are taken as that: exactly zero, and sums stay numbers

// Every kernel comes in two forms: with outputs, and (OUT = false) for the final state alone, where queries, P, O and what belongs to them are left out.
//
// prepare: one block per chunk and head (heads of a chunk lie side by side in memory and so do their blocks) makes what does not depend on the state: T, P and the scalars.
struct PrepareArgs
{
    const void *q, *k; const float *beta, *log_decay;   // [tokens, keyHeads, K], [tokens, heads]; beta and log_decay may be null
    const int2* chunks;                                 // first token and length of every chunk
    float *inverse, *attention;                         // T and P, [chunks, heads, C, C]
    ScanScalars* scan; TokenScalars* tokens;            // [chunks, heads, C]
    Sizes n; int rule;
};

template <typename T, bool OUT> __device__ __forceinline__ void prepare(const PrepareArgs& g)
{
    constexpr int ROWS = OUT ? 2 * C : C;
    DYNAMIC_SHARED(raw);
    __shared__ float log_decays[C], writes[C];
    __shared__ TokenScalars tokens[C];
    const int K = g.n.key_dim, K4 = padded(K), LK = row_length(K), tid = threadIdx.x;
    const Chunk x = chunk_at(g.chunks, blockIdx.x / g.n.heads, blockIdx.x % g.n.heads, g.n.heads, g.n.key_heads);
    float *rows = reinterpret_cast<float*>(raw), *a = rows + ROWS * LK;
    load_rows(rows, LK, (const T*)g.k + x.key * K, (i64)g.n.key_heads * K, C, x.count, K, K4);
    if (OUT) load_rows(rows + C * LK, LK, (const T*)g.q + x.key * K, (i64)g.n.key_heads * K, C, x.count, K, K4);
    __syncthreads();

    const int row = tid / 4;   // four threads per token
    float lambda = 0.f;
    for (int i = tid % 4; i < K; i += 4) lambda += rows[row * LK + i] * rows[row * LK + i];
    lambda = lane_sum<4>(lambda);
    if (tid % 4 == 0)
    {
        Scalars s = {0.f, 0.f, 0.f, 0.f};
        const i64 at = x.scalar + (i64)row * g.n.heads;
        if (row < x.count) s = coefficients(g.rule, lambda, g.beta ? g.beta[at] : 1.f, g.log_decay ? g.log_decay[at] : 0.f);
        log_decays[row] = fmaxf(s.logg, SMALLEST_LOG);
        writes[row] = s.wn;
        tokens[row].en = s.en;
        tokens[row].inverse = s.inv;
    }
    __syncthreads();

    if (tid < C)
    {
        double log = 0., last = 0.;
        for (int i = 0; i < C; i++)
        {
            last += log_decays[i];
            if (i == tid) log = last;
        }
        TokenScalars& s = tokens[tid];
        s.high = (float)log;
        s.low = (float)(log - (double)s.high);
        const float gamma = expf((float)log);
        g.scan[x.tile * C + tid] = {writes[tid], s.en * gamma * s.inverse, gamma, expf((float)(last - log)) * s.inverse};
        g.tokens[x.tile * C + tid] = s;
    }
    __syncthreads();

    float* p = OUT ? g.attention + x.tile * C * C : nullptr;
    multiply<false, true>(ROWS, C, K4, rows, LK, rows, LK, [&](int r, int i, float product)
    {
        const int t = r % C;
        const float decayed = i <= t ? product * tokens[i].inverse * decay(tokens[t], tokens[i]) : 0.f;
        if (OUT && r >= C) p[t * C + i] = decayed;
        else a[t * LC + i] = i < t ? tokens[t].en * tokens[t].inverse * decayed : 0.f;
    });
    __syncthreads();

    // T column by column: a finished element is taken out of all later rows, so that no sum waits for another.
    if (tid < C)
    {
        float column[C];
#pragma unroll
        for (int r = 0; r < C; r++) column[r] = r == tid ? 1.f : 0.f;
#pragma unroll
        for (int i = 0; i < C; i++)
#pragma unroll
            for (int r = i + 1; r < C; r++) column[r] -= a[r * LC + i] * column[i];
#pragma unroll
        for (int r = 0; r < C; r++) g.inverse[x.tile * C * C + r * C + tid] = column[r];
    }
}

// scan: one block per sequence, head and slice of value columns walks the chunks with the state in shared memory.
struct ScanArgs
{
    const void *q, *k, *v; const float *inverse, *attention; const ScanScalars* scan;
    const int2 *chunks, *ranges;    // of chunks; first and one-past-last chunk of every sequence
    const float* initial;           // [sequences, heads, K, V] or null
    void* output; float* final_state;
    float *boundary, *update;       // for the backward: states before each chunk [chunks, heads, K, V] and U; null when not wanted
    Sizes n; float scale;
};

template <typename T, bool OUT> __device__ __forceinline__ void scan(const ScanArgs& g)
{
    constexpr int STACK = OUT ? 2 : 1;
    DYNAMIC_SHARED(raw);
    __shared__ ScanScalars scalars[C];
    const int K = g.n.key_dim, V = g.n.value_dim, K4 = padded(K), LK = row_length(K), tid = threadIdx.x;
    const int head = blockIdx.y, v0 = blockIdx.z * VS, columns = V - v0 < VS ? V - v0 : VS;
    float* rows = reinterpret_cast<float*>(raw);                                      // keys, then queries
    float *t = rows + STACK * C * LK, *p = t + C * LC, *x = t + STACK * C * LC;       // x: values, then right-hand sides
    float *u = x + C * VS, *u_end = u + (STACK - 1) * C * VS, *state = u_end + C * VS;   // U; U decayed to the chunk's end
    const i64 key_stride = (i64)g.n.key_heads * K, value_stride = (i64)g.n.heads * V;
    const i64 state_at = ((i64)blockIdx.x * g.n.heads + head) * K * V + v0;
    // A tile of 4 x 4 per thread: of the right-hand sides in the first half of the block, of the output in the second. Without outputs the second half takes
    // the second half of the right-hand sides' depth.
    const int column = tid % (VS / 4), tile_row = tid / (VS / 4) * 4, token_row = tile_row % C;
    const bool is_second = tile_row >= C, is_output = OUT && is_second;
    const int half = OUT ? K4 : K4 / 8 * 4;

    load_rows(state, VS, g.initial ? g.initial + state_at : nullptr, V, K4, g.initial ? K : 0, columns, VS);
    __syncthreads();
    for (int chunk = g.ranges[blockIdx.x].x; chunk < g.ranges[blockIdx.x].y; chunk++)
    {
        const Chunk at = chunk_at(g.chunks, chunk, head, g.n.heads, g.n.key_heads);
        load_rows(rows, LK, (const T*)g.k + at.key * K, key_stride, C, at.count, K, K4);
        if (OUT) load_rows(rows + C * LK, LK, (const T*)g.q + at.key * K, key_stride, C, at.count, K, K4);
        load_rows(x, VS, (const T*)g.v + at.scalar * V + v0, value_stride, C, at.count, columns, VS);
        load_square(t, g.inverse + at.tile * C * C);
        if (OUT) load_square(p, g.attention + at.tile * C * C);
        if (tid < C) scalars[tid] = g.scan[at.tile * C + tid];
        if (g.boundary) store_rows(g.boundary + at.tile * K * V + v0, V, state, VS, K, columns);
        __syncthreads();

        float tile[4][4] = {};
        if (OUT) add_product<false, false>(tile, K4, rows + tile_row * LK, LK, state + column, VS, VS / 4);
        else
        {
            const int from = is_second ? half : 0;
            add_product<false, false>(tile, is_second ? K4 - half : half, rows + token_row * LK + from, LK, state + from * VS + column, VS, VS / 4);
            if (is_second)
            {
#pragma unroll
                for (int i = 0; i < 4; i++)
#pragma unroll
                    for (int j = 0; j < 4; j++) u_end[(token_row + i) * VS + column + j * (VS / 4)] = tile[i][j];
            }
            __syncthreads();
            if (!is_second)
            {
#pragma unroll
                for (int i = 0; i < 4; i++)
#pragma unroll
                    for (int j = 0; j < 4; j++) tile[i][j] += u_end[(token_row + i) * VS + column + j * (VS / 4)];
            }
        }
#pragma unroll
        for (int i = 0; (OUT || !is_second) && i < 4; i++)
        {
            const ScanScalars s = scalars[token_row + i];
#pragma unroll
            for (int j = 0; j < 4; j++)
            {
                float* right = x + (token_row + i) * VS + column + j * (VS / 4);
                if (is_output) tile[i][j] *= s.gamma;
                else *right = s.wn * *right - s.erase * tile[i][j];
            }
        }
        __syncthreads();

        if (!is_second)
        {
            float updates[4][4] = {};
            add_product<false, false>(updates, token_row + 4, t + token_row * LC, LC, x + column, VS, VS / 4);
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++)
                {
                    const int r = token_row + i, c = column + j * (VS / 4);
                    if (OUT) u[r * VS + c] = updates[i][j];
                    u_end[r * VS + c] = scalars[r].delta * updates[i][j];
                    if (g.update && r < at.count && c < columns) g.update[at.scalar * V + v0 + r * value_stride + c] = updates[i][j];
                }
        }
        __syncthreads();

        if (OUT && is_output)
        {
            add_product<false, false>(tile, token_row + 4, p + token_row * LC, LC, u + column, VS, VS / 4);
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++)
                {
                    const int r = token_row + i, c = column + j * (VS / 4);
                    if (r < at.count && c < columns) store((T*)g.output, at.scalar * V + v0 + r * value_stride + c, g.scale * tile[i][j]);
                }
        }
        const float gamma = scalars[C - 1].gamma;
        multiply<true, false>(K4, VS, C, rows, LK, u_end, VS, [&](int r, int c, float sum) { state[r * VS + c] = gamma * state[r * VS + c] + sum; });
        __syncthreads();
    }
    if (g.final_state) store_rows(g.final_state + state_at, V, state, VS, K, columns);
}

template <typename T> __device__ __forceinline__ void delta_general_prepare(const PrepareArgs& g) { prepare<T, true>(g); }
template <typename T> __device__ __forceinline__ void delta_general_prepare_state(const PrepareArgs& g) { prepare<T, false>(g); }
template <typename T> __device__ __forceinline__ void delta_general_scan(const ScanArgs& g) { scan<T, true>(g); }
template <typename T> __device__ __forceinline__ void delta_general_scan_state(const ScanArgs& g) { scan<T, false>(g); }

BOTH_TYPES(delta_general_prepare, PrepareArgs, 128)
BOTH_TYPES(delta_general_prepare_state, PrepareArgs, 128)
BOTH_TYPES(delta_general_scan, ScanArgs, 128)
BOTH_TYPES(delta_general_scan_state, ScanArgs, 128)
