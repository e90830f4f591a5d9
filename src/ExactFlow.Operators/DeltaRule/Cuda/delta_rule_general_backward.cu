#include "delta_rule_general.cuh"

// dscan walks the chunks from last to first carrying G = dL/dS:
//     dU = scale P^T dO + exp(c_C - c) Kn G       dX = T^T dU       G <- exp(c_C) G + scale (exp(c) Q)^T dO - Kn^T (en exp(c) dX)
// and writes dX and G at each chunk's end. grads then computes, for every chunk at once, what needs all value columns:
//     dQ   = scale ( exp(c) dO S0^T ) + Pm Kn                       Pm = scale lower(dO U^T . Gamma)
//     E    = -( W Kn + exp(c) dX S0^T )                             W = strict_lower(dX U^T . Gamma)
//     dKn  = en E + [ Pm^T Q + exp(c_C - c) U G^T - (en W)^T Kn ]
//     den  = kn . E       dwn = v . dX       dV = wn dX
//     dc   = q . dq + en kn . E - kn . [...]    (+ at the last token: exp(c_C) <G, S0> + sum kn . exp(c_C - c) U G^T)
// With OUT = false nothing comes back to the outputs, and terms with dO, Q and P are left out.
struct BackArgs
{
    const void *q, *k, *v, *grad_output; const float *inverse, *attention; const ScanScalars* scan; const TokenScalars* tokens;
    const int2 *chunks, *ranges; const float *beta, *log_decay;
    const float* grad_final;             // [sequences, heads, K, V] or null
    float *grad_boundary, *grad_solve;   // G after each chunk [chunks, heads, K, V]; dX, like v
    const float *boundary, *update;      // kept by the forward
    float *head_query, *head_key;        // dq and dk per value head [tokens, heads, K] where value heads share key heads, otherwise null
    Target query, key, value, beta_target, log_decay_target, initial;
    Sizes n; float scale; int rule, decays;
};

template <typename T, bool OUT> __device__ __forceinline__ void dscan(const BackArgs& g)
{
    constexpr int STACK = OUT ? 2 : 1;
    DYNAMIC_SHARED(raw);
    __shared__ ScanScalars scalars[C];
    const int K = g.n.key_dim, V = g.n.value_dim, K4 = padded(K), LK = row_length(K), tid = threadIdx.x;
    const int head = blockIdx.y, v0 = blockIdx.z * VS, columns = V - v0 < VS ? V - v0 : VS;
    float* rows = reinterpret_cast<float*>(raw);                                       // keys, then queries
    float *t = rows + STACK * C * LK, *p = t + C * LC, *d_out = t + STACK * C * LC;    // d_out: scale dO
    float *d_u = d_out + (STACK - 1) * C * VS, *steps = d_u + C * VS, *state = steps + STACK * C * VS;   // steps: what keys, then queries, add to G
    const i64 key_stride = (i64)g.n.key_heads * K, value_stride = (i64)g.n.heads * V;
    const i64 state_at = ((i64)blockIdx.x * g.n.heads + head) * K * V + v0;
    // A tile of 4 x 4 per thread and half of the depth: the second half of the block takes the second.
    const int column = tid % (VS / 4), row = tid / (VS / 4) * 4 % C;
    const bool is_second = tid >= C / 4 * (VS / 4);
    const int half = K4 / 8 * 4;

    load_rows(state, VS, g.grad_final ? g.grad_final + state_at : nullptr, V, K4, g.grad_final ? K : 0, columns, VS);
    __syncthreads();
    for (int chunk = g.ranges[blockIdx.x].y - 1; chunk >= g.ranges[blockIdx.x].x; chunk--)
    {
        const Chunk at = chunk_at(g.chunks, chunk, head, g.n.heads, g.n.key_heads);
        load_rows(rows, LK, (const T*)g.k + at.key * K, key_stride, C, at.count, K, K4);
        load_square(t, g.inverse + at.tile * C * C);
        if (OUT)
        {
            load_rows(rows + C * LK, LK, (const T*)g.q + at.key * K, key_stride, C, at.count, K, K4);
            load_rows(d_out, VS, (const T*)g.grad_output + at.scalar * V + v0, value_stride, C, at.count, columns, VS);
            load_square(p, g.attention + at.tile * C * C);
        }
        if (tid < C) scalars[tid] = g.scan[at.tile * C + tid];
        store_rows(g.grad_boundary + at.tile * K * V + v0, V, state, VS, K, columns);
        __syncthreads();

        if (OUT)
        {
            for (int i = tid; i < C * VS; i += blockDim.x)
            {
                d_out[i] *= g.scale;
                steps[C * VS + i] = scalars[i / VS].gamma * d_out[i];
            }
            __syncthreads();
        }

        float tile[4][4] = {};
        const int from = is_second ? half : 0;
        add_product<false, false>(tile, is_second ? K4 - half : half, rows + row * LK + from, LK, state + from * VS + column, VS, VS / 4);
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int j = 0; j < 4; j++) tile[i][j] *= scalars[row + i].delta;
        if (is_second)
        {
            if (OUT) add_product<true, false>(tile, C - row, p + row * LC + row, LC, d_out + row * VS + column, VS, VS / 4);
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) d_u[(row + i) * VS + column + j * (VS / 4)] = tile[i][j];
        }
        __syncthreads();
        if (!is_second)
        {
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) d_u[(row + i) * VS + column + j * (VS / 4)] += tile[i][j];
        }
        __syncthreads();

        if (!is_second)
        {
            float solved[4][4] = {};
            add_product<true, false>(solved, C - row, t + row * LC + row, LC, d_u + row * VS + column, VS, VS / 4);
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++)
                {
                    const int r = row + i, c = column + j * (VS / 4);
                    steps[r * VS + c] = -scalars[r].erase * solved[i][j];
                    if (r < at.count && c < columns) g.grad_solve[at.scalar * V + v0 + r * value_stride + c] = solved[i][j];
                }
        }
        __syncthreads();

        const float gamma = scalars[C - 1].gamma;
        multiply<true, false>(K4, VS, STACK * C, rows, LK, steps, VS, [&](int r, int c, float sum) { state[r * VS + c] = gamma * state[r * VS + c] + sum; });
        __syncthreads();
    }
    for (int i = tid; g.initial.to && i < K * VS; i += blockDim.x)
        if (i % VS < columns) write<float>(g.initial, state_at + (i64)(i / VS) * V + i % VS, state[i]);
}

// grads: one block per chunk and head. In stacks of 64 rows, the first 32 belong to keys (dX, E, W), the others to queries (dO, dQ, P).
constexpr int THREADS = 256, LANES = THREADS / C;   // LANES threads per token

template <typename T, bool OUT> __device__ __forceinline__ void grads_of_chunk(const BackArgs& g)
{
    constexpr int ROWS = OUT ? 2 * C : C;
    DYNAMIC_SHARED(raw);
    __shared__ TokenScalars tokens[C];
    __shared__ ScanScalars scalars[C];
    __shared__ float sums[32], d_logs[C], ends[C];
    const int K = g.n.key_dim, V = g.n.value_dim, K4 = padded(K), LK = row_length(K), tid = threadIdx.x;
    const int row = tid / LANES, lane = tid % LANES;   // for what is done token by token
    const Chunk at = chunk_at(g.chunks, blockIdx.x / g.n.heads, blockIdx.x % g.n.heads, g.n.heads, g.n.key_heads);
    // Keys and queries come when dX and dO, U, and S0 or G of the slices are used up, and take their place.
    const int slices_floats = (ROWS + C) * LC + K4 * LC, rows_floats = ROWS * LK;
    float* rows = reinterpret_cast<float*>(raw);
    float *grads = rows, *update = grads + ROWS * LC, *state = update + C * LC;
    float *left = rows + (slices_floats > rows_floats ? slices_floats : rows_floats);   // E and dQ
    float *right = left + ROWS * LK, *squares = right + C * LK;                        // what keys get as writers; W and P
    const i64 value_stride = (i64)g.n.heads * V;
    const bool has_row = row < at.count;
    const i64 scalar_at = at.scalar + (i64)row * g.n.heads;

    if (tid < C)
    {
        tokens[tid] = g.tokens[at.tile * C + tid];
        scalars[tid] = g.scan[at.tile * C + tid];
    }
    for (int i = tid; i < ROWS * LK; i += THREADS) left[i] = 0.f;
    for (int i = tid; i < C * LK; i += THREADS) right[i] = 0.f;
    for (int i = tid; i < ROWS * LC; i += THREADS) squares[i] = 0.f;
    float grad_write = 0.f, carried = 0.f;
    for (int v0 = 0; v0 < V; v0 += VS)
    {
        const int columns = V - v0 < VS ? V - v0 : VS;
        __syncthreads();
        load_rows(grads, LC, g.grad_solve + at.scalar * V + v0, value_stride, C, at.count, columns, VS);
        if (OUT) load_rows(grads + C * LC, LC, (const T*)g.grad_output + at.scalar * V + v0, value_stride, C, at.count, columns, VS);
        load_rows(update, LC, g.update + at.scalar * V + v0, value_stride, C, at.count, columns, VS);
        load_rows(state, LC, g.boundary + at.tile * K * V + v0, V, K4, K, columns, VS);
        __syncthreads();
        multiply<false, true>(ROWS, C, VS, grads, LC, update, LC, [&](int r, int i, float sum) { squares[r * LC + i] += sum; });
        multiply<false, true>(ROWS, K4, VS, grads, LC, state, LC, [&](int r, int i, float sum) { left[r * LK + i] += sum; });
        for (int c = lane; has_row && c < columns; c += LANES)
        {
            const i64 i = at.scalar * V + row * value_stride + v0 + c;
            const float solved = grads[row * LC + c];
            grad_write += load((const T*)g.v, i) * solved;
            if (g.value.to) write<T>(g.value, i, scalars[row].wn * solved);
        }
        __syncthreads();
        for (int i = tid; i < K * VS; i += THREADS)
        {
            const int r = i / VS, c = i % VS;
            const float after = c < columns ? g.grad_boundary[(at.tile * K + r) * V + v0 + c] : 0.f;
            carried += state[r * LC + c] * after;
            state[r * LC + c] = after;
        }
        __syncthreads();
        multiply<false, true>(C, K4, VS, update, LC, state, LC, [&](int r, int i, float sum) { right[r * LK + i] += sum; });
    }
    carried = block_sum(carried, sums);
    grad_write = lane_sum<LANES>(grad_write);

    // The parts through the state get their decays, the squares theirs.
    load_rows(rows, LK, (const T*)g.k + at.key * K, (i64)g.n.key_heads * K, C, at.count, K, K4);
    if (OUT) load_rows(rows + C * LK, LK, (const T*)g.q + at.key * K, (i64)g.n.key_heads * K, C, at.count, K, K4);
    for (int i = tid; i < ROWS * C; i += THREADS)
    {
        const int r = i / C, t = r % C, other = i % C;
        const bool keep = r < C ? other < t : other <= t;
        squares[r * LC + other] *= keep ? (r < C ? 1.f : g.scale) * decay(tokens[t], tokens[other]) : 0.f;
    }
    __syncthreads();
    const float to_end = decay(tokens[C - 1], tokens[row]);
    float end = 0.f;   // kn . exp(c_C - c) U G^T
    for (int i = lane; i < K4; i += LANES)
    {
        const float k = rows[row * LK + i] * tokens[row].inverse, through = right[row * LK + i] * to_end;
        rows[row * LK + i] = k;
        right[row * LK + i] = through;
        left[row * LK + i] *= scalars[row].gamma;
        if (OUT) left[(C + row) * LK + i] *= g.scale * scalars[row].gamma;
        end += k * through;
    }
    end = lane_sum<LANES>(end);
    __syncthreads();
    multiply<false, false>(ROWS, K4, C, squares, LC, rows, LK, [&](int r, int i, float sum) { left[r * LK + i] += sum; });
    __syncthreads();
    for (int i = tid; i < C * C; i += THREADS) squares[i / C * LC + i % C] *= -tokens[i / C].en;
    __syncthreads();
    multiply<true, false>(C, K4, ROWS, squares, LC, rows, LK, [&](int r, int i, float sum) { right[r * LK + i] += sum; });
    __syncthreads();

    // Through the coefficients and the key's length to the inputs of every token.
    float query_query = 0.f, erased = 0.f, written = 0.f;   // q . dq, kn . E, kn . [...]
    for (int i = lane; i < K; i += LANES)
    {
        const float k = rows[row * LK + i];
        if (OUT) query_query += rows[(C + row) * LK + i] * left[(C + row) * LK + i];
        erased -= k * left[row * LK + i];
        written += k * right[row * LK + i];
    }
    if (OUT) query_query = lane_sum<LANES>(query_query);
    erased = lane_sum<LANES>(erased);
    written = lane_sum<LANES>(written);
    const TokenScalars s = tokens[row];
    Derivatives d = {};
    if (has_row) d = derivatives(g.rule, 1.f / (s.inverse * s.inverse), g.beta ? g.beta[scalar_at] : 1.f, g.log_decay ? g.log_decay[scalar_at] : 0.f);
    // dk: what a unit key cannot follow is taken out, what acts through |k|^2 put in.
    const float along = 2.f * (erased * d.en_lambda + grad_write * d.wn_lambda) / s.inverse - (s.en * erased + written) * s.inverse;
    for (int i = lane; has_row && i < K; i += LANES)
    {
        const float key = s.inverse * (right[row * LK + i] - s.en * left[row * LK + i]) + along * rows[row * LK + i];
        if (OUT)
        {
            const float query = left[(C + row) * LK + i];
            if (g.head_query) g.head_query[scalar_at * K + i] = query;
            else if (g.query.to) write<T>(g.query, (at.key + (i64)row * g.n.key_heads) * K + i, query);
        }
        if (g.head_key) g.head_key[scalar_at * K + i] = key;
        else if (g.key.to) write<T>(g.key, (at.key + (i64)row * g.n.key_heads) * K + i, key);
    }
    if (lane == 0)
    {
        if (has_row && g.beta_target.to) write<float>(g.beta_target, scalar_at, erased * d.en_beta + grad_write * d.wn_beta);
        d_logs[row] = query_query + s.en * erased - written;
        ends[row] = end;
    }
    if (!g.decays || !g.log_decay_target.to) return;
    __syncthreads();
    if (lane == 0 && has_row)
    {   // a log decay moves all running sums from its token on
        double sum = (double)scalars[C - 1].gamma * carried;
        for (int i = 0; i < C; i++) sum += (i < row ? 0. : (double)d_logs[i]) + (double)ends[i];
        write<float>(g.log_decay_target, scalar_at, (float)sum * d.logg_ld + erased * d.en_ld + grad_write * d.wn_ld);
    }
}

// dq or dk of key heads that several value heads share: [tokens, heads, K] summed to [tokens, keyHeads, K], in the heads' order.
struct SumArgs { const float* from; Target to; i64 count; int group, key_dim; };

template <typename T> __device__ __forceinline__ void delta_general_sum_heads(const SumArgs& g)
{
    EACH(i, g.count)
    {
        const float* from = g.from + (i / g.key_dim * g.group) * g.key_dim + i % g.key_dim;
        float sum = 0.f;
        for (int j = 0; j < g.group; j++) sum += from[(i64)j * g.key_dim];
        write<T>(g.to, i, sum);
    }
}

template <typename T> __device__ __forceinline__ void delta_general_dscan(const BackArgs& g) { dscan<T, true>(g); }
template <typename T> __device__ __forceinline__ void delta_general_dscan_state(const BackArgs& g) { dscan<T, false>(g); }
template <typename T> __device__ __forceinline__ void delta_general_grads(const BackArgs& g) { grads_of_chunk<T, true>(g); }
template <typename T> __device__ __forceinline__ void delta_general_grads_state(const BackArgs& g) { grads_of_chunk<T, false>(g); }

BOTH_TYPES(delta_general_dscan, BackArgs, 128)
BOTH_TYPES(delta_general_dscan_state, BackArgs, 128)
BOTH_TYPES(delta_general_grads, BackArgs, THREADS)
BOTH_TYPES(delta_general_grads_state, BackArgs, THREADS)
BOTH_TYPES(delta_general_sum_heads, SumArgs, 256)
