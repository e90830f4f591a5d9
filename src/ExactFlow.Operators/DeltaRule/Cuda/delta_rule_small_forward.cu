#include "delta_rule_small.cuh"

// The walk forwards (delta_rule_small.cuh): thread i of a group has column i of the state. Scalars are made for a tile of D tokens at once, a thread per token.
constexpr int GROUPS = 8;          // of threads in a block, each with a head of a sequence

template <int D> struct ForwardTile { Rows<D> key, query, value; TokenCoefficients tokens[D]; };

template <typename T, int D, bool DECAYS> __device__ __forceinline__ void delta_small_forward(const SmallArgs& g)
{
    __shared__ __align__(16) ForwardTile<D> tiles[GROUPS];
    const SmallSizes& n = g.n;
    const int pair = blockIdx.x * GROUPS + threadIdx.x / D;
    const bool is_real = pair < n.pairs, keeps = g.kept.state && is_real;
    const Place<D> at(n, min(pair, n.pairs - 1));
    const int lane = at.lane;
    const bool is_value = lane < n.value_dim;
    ForwardTile<D>& tile = tiles[threadIdx.x / D];
    TileReader<T, D> keys = key_reader<T>(g.k, n, at), queries = key_reader<T>(g.q, n, at), values = value_reader<T>(g.v, n, at);
    float state[D];
#pragma unroll
    for (int i = 0; i < D; i++) state[i] = g.initial && is_value && i < n.key_dim ? g.initial[((i64)at.pair * n.key_dim + i) * n.value_dim + lane] : 0.f;

    // The next tile is on its way while one is worked at.
    float beta = 1.f, log_decay = 0.f;
    auto fetch = [&](int start)
    {
        keys.fetch(start);
        queries.fetch(start);
        values.fetch(start);
        const i64 scalar = at.scalar(n, min(start + lane, n.time - 1));
        if (g.beta) beta = g.beta[scalar];
        if (g.log_decay) log_decay = g.log_decay[scalar];
    };
    fetch(0);
    for (int number = 0; number < n.tiles; number++)
    {
        const int start = number * D;
        if (keeps)
        {
#pragma unroll
            for (int i = 0; i < D; i++) g.kept.state[(at.tile(n, number) + i) * D + lane] = state[i];
        }
        keys.put(tile.key, start, as_it_is);
        queries.put(tile.query, start, as_it_is);
        values.put(tile.value, start, as_it_is);
        __syncwarp();
        TokenCoefficients own = { 0.f, 0.f, 1.f, 0.f };
        if (start + lane < n.time)
        {
            const Scalars s = coefficients(n.rule, row_product<D>(tile.key.of[lane], tile.key.of[lane]), beta, log_decay);
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

        // Outputs take the place of values.
        float* update = g.kept.update + at.tile(n, number) * D + lane;
#pragma unroll 4
        for (int t = 0; t < D; t++)
        {
            const TokenCoefficients c = tile.tokens[t];
            float row[D];
            load_row<D>(row, tile.key.of[t]);
            const float u = c.write * tile.value.of[t][lane] - c.erase * dot<D>(row, state);
            if (keeps) update[t * D] = u;
            advance<DECAYS>(state, c.decay, row, u);
            load_row<D>(row, tile.query.of[t]);
            tile.value.of[t][lane] = n.scale * dot<D>(row, state);
        }
        if (is_real && is_value) write_column<T, D>({ g.output, 0 }, tile.value, at.value(n, start), n.heads * n.value_dim, min(D, n.time - start));
        __syncwarp();   // the tile may be overwritten
    }
    if (g.final_state && is_real && is_value)
    {
#pragma unroll
        for (int i = 0; i < D; i++)
            if (i < n.key_dim) g.final_state[((i64)at.pair * n.key_dim + i) * n.value_dim + lane] = state[i];
    }
}

SMALL_KERNELS(delta_small_forward, SmallArgs, 8, 8 * GROUPS)
FLOAT_KERNELS(delta_small_forward, SmallArgs, 16, 16 * GROUPS)
