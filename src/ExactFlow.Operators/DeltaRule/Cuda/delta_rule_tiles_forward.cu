#include "delta_rule_tiles.cuh"

// The forward pass of delta_rule_tiles.cuh.
template <bool DECAYS> struct ForwardTile
{
    Matrix key, query, value, work, map;   // wn v, later U0 = T wn V, later U; T, later the map of the state, later P; -T en g Gamma(t - 1) K
    TokenCoefficients tokens[D];
    Decays<DECAYS> decays;
};

template <bool DECAYS> __device__ __forceinline__ void delta_tiles_forward(const SmallArgs& g)
{
    DYNAMIC_SHARED(room);
    const SmallSizes& n = g.n;
    Matrix* states = reinterpret_cast<Matrix*>(room);   // before each tile of these eight, and after the last
    ForwardTile<DECAYS>* tiles = reinterpret_cast<ForwardTile<DECAYS>*>(states + WARPS + 1);
    const int warp = threadIdx.x >> 5;
    const Lane at;
    const RowHalf half;
    const Place<D> head(n, blockIdx.x);
    const bool is_whole = n.key_dim == D && n.value_dim == D && ((u64)g.q | (u64)g.k | (u64)g.v) % 16 == 0;
    ForwardTile<DECAYS>& tile = tiles[warp];
    const i64 state_at = (i64)head.pair * n.key_dim * n.value_dim;
    Sum state = load_state(at, g.initial ? g.initial + state_at : nullptr, n);   // the first warp's, after all tiles so far

    for (int first = 0; first < n.tiles; first += WARPS)
    {
        const int number = first + warp, start = number * D, there = min(WARPS, n.tiles - first);
        const bool is_mine = number < n.tiles;
        Sum attention, update;
        if (is_mine)
        {
            const int t = min(start + half.token, n.time - 1);
            const bool is_there = start + half.token < n.time;
            const uint4 key_words = fetch(g.k, head.key(n, t) - head.lane, half, n.key_dim, is_whole), query_words = fetch(g.q, head.key(n, t) - head.lane, half, n.key_dim, is_whole),
                value_words = fetch(g.v, head.value(n, t) - head.lane, half, n.value_dim, is_whole);
            const i64 scalar = head.scalar(n, t);
            const float beta = g.beta ? g.beta[scalar] : 1.f, log_decay = g.log_decay ? g.log_decay[scalar] : 0.f;
            float x[8], square = 0.f;
            unpack(x, key_words, is_there);
#pragma unroll
            for (int i = 0; i < 8; i++) square += x[i] * x[i];
            square += __shfl_xor_sync(0xFFFFFFFFu, square, 1);
            TokenCoefficients own = { 0.f, 0.f, 1.f, 0.f };
            if (is_there)
            {
                const Scalars s = coefficients(n.rule, square, beta, log_decay);
                const float decay = DECAYS ? expf(s.logg) : 1.f;
                own = { s.en * decay, s.wn, decay, s.inv };
            }
            put_half(tile.key, half, x, own.inv);
            unpack(x, query_words, is_there);
            put_half(tile.query, half, x, 1.f);
            unpack(x, value_words, is_there);
            put_half(tile.value, half, x, own.write);
            if (half.first == 0)
            {
                tile.tokens[half.token] = own;
                if (g.kept.state) g.kept.coefficients[head.tile(n, number) + half.token] = own;
            }
            __syncwarp();
            tile.decays.make(tile.tokens);
            __syncwarp();

            attention = triangles<DECAYS>(at, rows(at, tile.key), rows(at, tile.query), tile.tokens, tile.decays, tile.work);
            const Operand inverse = rows(at, tile.work);
            update = product(inverse, columns(at, tile.value));
            Sum map = product(inverse, rows(at, [&](int i, int s) { return -tile.tokens[s].erase * tile.decays.from_beginning(s - 1) * tile.key.of[s][i]; }));
            __syncwarp();   // values and T were read
            put(at, tile.value, update);
            put(at, tile.map, map);
            __syncwarp();
            const Operand kept_keys = rows(at, [&](int i, int s) { return tile.key.of[s][i] * tile.decays.from(s, D - 1); });
            put(at, states[warp + 1], product(kept_keys, columns(at, tile.value)));
            put(at, tile.work, product(kept_keys, columns(at, tile.map)));
        }
        __syncthreads();

        if (warp == 0)
        {
            put(at, states[0], state);
            __syncwarp();
            for (int i = 0; i < there; i++) step(at, state, tiles[i].decays.from_beginning(D - 1), tiles[i].work, states[i], states[i + 1]);
        }
        __syncthreads();

        if (is_mine)
        {
            const Operand before = columns(at, states[warp]);
            multiply(update, rows(at, tile.map), before);
            put(at, tile.value, update);
            put(at, tile.work, attention);
            if (g.kept.state)
            {
                const i64 place = head.tile(n, number) * D;
#pragma unroll
                for (int e = 0; e < 4; e += 2)
#pragma unroll
                    for (int c = 0; c < 2; c++)
                    {
                        const int row = at.row(e), column = at.column(c, e);
                        *reinterpret_cast<float2*>(g.kept.update + place + row * D + column) = make_float2(update.of[c][e], update.of[c][e + 1]);
                        *reinterpret_cast<float2*>(g.kept.state + place + row * D + column) = two(&states[warp].of[row][column]);
                    }
            }
            __syncwarp();
            Sum output = product(rows(at, tile.query), before);
            each(at, output, [&](int t, int, float x) { return x * tile.decays.from_beginning(t); });
            multiply(output, rows(at, tile.work), columns(at, tile.value));
            each(at, output, [&](int, int, float x) { return x * n.scale; });
            write_rows<bf16>(at, { g.output, 0 }, output, head.value(n, start) - head.lane, n.heads * n.value_dim, n.time - start, n.value_dim);
        }
        __syncthreads();   // states and tiles may be overwritten
    }
    if (g.final_state && warp == 0)
        each(at, state, [&](int i, int j, float x) { if (i < n.key_dim && j < n.value_dim) g.final_state[state_at + i * n.value_dim + j] = x; return x; });
}

TILE_KERNELS(delta_tiles_forward, SmallArgs, 3)
