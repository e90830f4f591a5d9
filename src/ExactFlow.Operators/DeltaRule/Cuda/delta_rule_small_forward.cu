#include "delta_rule_small.cuh"

// The walk forwards (delta_rule_small.cuh): thread i of a group has column i of the state. Scalars are made for a tile of D tokens at once, a thread per token.
constexpr int GROUPS = 8;          // of threads in a block, each with a head of a sequence

struct SmallArgs
{
    const void *q, *k, *v; const float *beta, *log_decay, *initial;   // [batch, time, keyHeads, K], [batch, time, heads, V], [batch, time, heads], [batch, heads, K, V]
    void* output; float* final_state;
    SmallKept kept;                                                   // for the backward pass, or null
    SmallSizes n;
};

template <int D> struct ForwardTile { Rows<D> key, query, value; TokenCoefficients tokens[D]; };

template <typename T, int D> __device__ __forceinline__ void delta_small_forward(const SmallArgs& g)
{
    __shared__ __align__(16) ForwardTile<D> tiles[GROUPS];
    const SmallSizes& n = g.n;
    const int pair = blockIdx.x * GROUPS + threadIdx.x / D;
    const bool is_real = pair < n.pairs, keeps = g.kept.state && is_real;
    const Place<D> at(n, min(pair, n.pairs - 1));
    const int lane = at.lane;
    ForwardTile<D>& tile = tiles[threadIdx.x / D];
    const Column<T> keys = key_column<T>(g.k, n, at), queries = key_column<T>(g.q, n, at), values = value_column<T>(g.v, n, at);
    const bool has_output = is_real && values.is_there;
    float state[D];
#pragma unroll
    for (int i = 0; i < D; i++) state[i] = g.initial && values.is_there && i < n.key_dim ? g.initial[((i64)at.pair * n.key_dim + i) * n.value_dim + lane] : 0.f;

    // The next tile is on its way while one is worked at.
    T k[D], q[D], v[D];
    float beta = 1.f, log_decay = 0.f;
    auto fetch = [&](int start)
    {
#pragma unroll
        for (int t = 0; t < D; t++) { k[t] = keys.read(start, t); q[t] = queries.read(start, t); v[t] = values.read(start, t); }
        const i64 scalar = at.scalar(n, min(start + lane, n.time - 1));
        if (g.beta) beta = g.beta[scalar];
        if (g.log_decay) log_decay = g.log_decay[scalar];
    };
    fetch(0);
    for (int number = 0; number < n.tiles; number++)
    {
        const int start = number * D;
        float row[D];
        if (keeps)
        {
#pragma unroll
            for (int i = 0; i < D; i++) g.kept.state[(at.tile(n, number) + i) * D + lane] = state[i];
        }
#pragma unroll
        for (int t = 0; t < D; t++)
        {
            tile.key.of[t][lane] = keys.use(k[t], start, t);
            tile.query.of[t][lane] = queries.use(q[t], start, t);
            tile.value.of[t][lane] = values.use(v[t], start, t);
        }
        __syncwarp();
        load_row<D>(row, tile.key.of[lane]);
        TokenCoefficients own = { 0.f, 0.f, 1.f, 0.f };
        if (start + lane < n.time)
        {
            const Scalars s = coefficients(n.rule, dot<D>(row, row), beta, log_decay);
            const float decay = expf(s.logg);
            own = { s.en * decay, s.wn, decay, s.inv };
        }
        tile.tokens[lane] = own;
        if (keeps) g.kept.coefficients[at.tile(n, number) + lane] = own;
        __syncwarp();
#pragma unroll
        for (int t = 0; t < D; t++) tile.key.of[t][lane] *= tile.tokens[t].inv;
        __syncwarp();
        fetch(start + D);

        T* output = (T*)g.output + at.value(n, start);
        float* update = g.kept.update + at.tile(n, number) * D + lane;
#pragma unroll 4
        for (int t = 0; t < D; t++)
        {
            const TokenCoefficients c = tile.tokens[t];
            load_row<D>(row, tile.key.of[t]);
            const float u = c.write * tile.value.of[t][lane] - c.erase * dot<D>(row, state);
            if (keeps) update[t * D] = u;
            advance<D>(state, c.decay, row, u);
            load_row<D>(row, tile.query.of[t]);
            const float o = n.scale * dot<D>(row, state);
            if (has_output && start + t < n.time) store(output, (i64)t * values.stride, o);
        }
        __syncwarp();   // the tile may be overwritten
    }
    if (g.final_state && has_output)
    {
#pragma unroll
        for (int i = 0; i < D; i++)
            if (i < n.key_dim) g.final_state[((i64)at.pair * n.key_dim + i) * n.value_dim + lane] = state[i];
    }
}

template <typename T> __device__ __forceinline__ void delta_small_forward_8(const SmallArgs& g) { delta_small_forward<T, 8>(g); }
template <typename T> __device__ __forceinline__ void delta_small_forward_16(const SmallArgs& g) { delta_small_forward<T, 16>(g); }

BOTH_TYPES(delta_small_forward_8, SmallArgs, 8 * GROUPS)
BOTH_TYPES(delta_small_forward_16, SmallArgs, 16 * GROUPS)
