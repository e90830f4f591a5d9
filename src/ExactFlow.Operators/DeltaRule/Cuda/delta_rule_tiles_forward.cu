#include "delta_rule_tiles.cuh"

// The forward pass of delta_rule_tiles.cuh.

// A, strictly lower, becomes T = (I + A)^-1 in its place. The two triangles on the diagonal row by row, a thread per column; below them -T22 A21 T11.
__device__ __forceinline__ void invert(const Lane& at, Matrix& m)
{
    constexpr int H = D / 2;
    const int column = threadIdx.x & (D - 1), corner = column & H;
    float x[H];
#pragma unroll
    for (int t = 0; t < H; t++)
    {
        float row[H];
        load_row<H>(row, &m.of[corner + t][corner]);
        float sum = corner + t == column ? 1.f : 0.f;
#pragma unroll
        for (int s = 0; s < t; s++) sum = fmaf(-row[s], x[s], sum);
        x[t] = sum;
    }
    __syncwarp();
    if ((threadIdx.x & 31) < D)
    {
#pragma unroll
        for (int t = 0; t < H; t++) m.of[corner + t][column] = x[t];
    }
    __syncwarp();
    // Above the diagonal is room for A21 T11, and 0 again afterwards. Of the 16 rows of these products the lower half is 0.
    float product[4] = {}, below[4] = {};
    mma_tf32(product, tf32(m.of[H + at.r][at.c]), 0u, tf32(m.of[H + at.r][at.c + 4]), 0u, tf32(m.of[at.c][at.r]), tf32(m.of[at.c + 4][at.r]));
    *reinterpret_cast<float2*>(&m.of[at.r][H + at.c * 2]) = make_float2(product[0], product[1]);
    __syncwarp();
    mma_tf32(below, tf32(m.of[H + at.r][H + at.c]), 0u, tf32(m.of[H + at.r][H + at.c + 4]), 0u, tf32(m.of[at.c][H + at.r]), tf32(m.of[at.c + 4][H + at.r]));
    __syncwarp();
    *reinterpret_cast<float2*>(&m.of[H + at.r][at.c * 2]) = make_float2(-below[0], -below[1]);
    *reinterpret_cast<float2*>(&m.of[at.r][H + at.c * 2]) = make_float2(0.f, 0.f);
    __syncwarp();
}

// T to `inverse`, from keys as they came.
template <bool DECAYS> __device__ __forceinline__ void triangle(const Lane& at, const Operand& key, const TokenCoefficients* tokens, const Decays<DECAYS>& decays, Matrix& inverse)
{
    Sum a = product(key, key);
    each(at, a, [&](int t, int s, float x) { return s < t ? tokens[t].erase * tokens[t].inv * tokens[s].inv * x * decays.from(s, t - 1) : 0.f; });
    put(at, inverse, a);
    __syncwarp();
    invert(at, inverse);
}

template <bool DECAYS> struct ForwardTile
{
    Loaded key, query, value;
    Matrix work;                  // T, later the map of the state
    TokenCoefficients tokens[D];
    Decays<DECAYS> decays;
};

template <bool DECAYS> __device__ __forceinline__ void delta_tiles_forward(const SmallArgs& g)
{
    DYNAMIC_SHARED(room);
    const SmallSizes& n = g.n;
    Matrix* states = reinterpret_cast<Matrix*>(room);   // before each tile of these eight, and after the last; transposed
    ForwardTile<DECAYS>* tiles = reinterpret_cast<ForwardTile<DECAYS>*>(states + WARPS + 1);
    const int warp = threadIdx.x >> 5;
    const Lane at;
    const RowHalf half;
    const Place<D> head(n, blockIdx.x);
    const bool is_whole = n.key_dim == D && n.value_dim == D && ((u64)g.q | (u64)g.k | (u64)g.v) % 16 == 0;
    ForwardTile<DECAYS>& tile = tiles[warp];
    const i64 state_at = (i64)head.pair * n.key_dim * n.value_dim;
    Sum state = {};                                     // the first warp's, after all tiles so far
    if (g.initial && warp == 0) state = load_state(at, g.initial + state_at, n);

    for (int first = 0; first < n.tiles; first += WARPS)
    {
        const int number = first + warp, start = number * D, there = min(WARPS, n.tiles - first);
        const bool is_mine = number < n.tiles;
        Sum attention, update, map;   // P, U^T without what comes from S0, -T en g Gamma(t - 1) K
        if (is_mine)
        {
            const int t = min(start + half.token, n.time - 1);
            const bool is_there = start + half.token < n.time;
            const i64 key_row = head.key(n, t) - head.lane;
            uint4 words[3];
            fetch(words, { { g.k, key_row, n.key_dim }, { g.q, key_row, n.key_dim }, { g.v, head.value(n, t) - head.lane, n.value_dim } }, half, is_whole);
            const i64 scalar = head.scalar(n, t);
            const float beta = g.beta ? g.beta[scalar] : 1.f, log_decay = g.log_decay ? g.log_decay[scalar] : 0.f;
            put(tile.key, half, or_zero(words[0], is_there));
            put(tile.query, half, or_zero(words[1], is_there));
            put(tile.value, half, or_zero(words[2], is_there));
            const float lambda = square(words[0]);
            TokenCoefficients own = { 0.f, 0.f, 1.f, 0.f };
            if (is_there)
            {
                const Scalars s = coefficients(n.rule, lambda, beta, log_decay);
                const float decay = DECAYS ? expf(s.logg) : 1.f;
                own = { s.en * decay, s.wn, decay, s.inv };
            }
            if (half.first == 0)
            {
                tile.tokens[half.token] = own;
                if (g.kept.state) g.kept.coefficients[head.tile(n, number) + half.token] = own;
            }
            __syncwarp();
            tile.decays.make(tile.tokens);

            const Operand key = rows(tile.key), keys = columns(tile.key);
            triangle<DECAYS>(at, key, tile.tokens, tile.decays, tile.work);
            attention = product(rows(tile.query), key);
            each(at, attention, [&](int t, int s, float x) { return s <= t ? tile.tokens[s].inv * x * tile.decays.from(s, t) : 0.f; });
            const Operand inverse = rows(at, tile.work);
            if (g.kept.state)
            {
                Sum kept;
#pragma unroll
                for (int i = 0; i < 8; i++) kept.of[i >> 2][i & 3] = number_of(inverse, i >> 2, i & 3);
                keep(at, g.kept.inverse + head.tile(n, number) * D, kept);
            }
            const Operand erasing = scaled(at, keys, [&](int s) { return -tile.tokens[s].erase * tile.tokens[s].inv * tile.decays.from_beginning(s - 1); });
            const Operand keeping = scaled(at, keys, [&](int s) { return tile.tokens[s].inv * tile.decays.from(s, D - 1); });
            update = product(scaled(at, columns(tile.value), [&](int s) { return tile.tokens[s].write; }), inverse);
            map = product(inverse, erasing);
            put(at, states[warp + 1], product(operand(update), keeping));
            const Sum of_state = product(keeping, operand(product(erasing, inverse)));
            __syncwarp();   // T was read
            put(at, tile.work, of_state);
        }
        __syncthreads();

        if (warp == 0)
        {
            put(at, states[0], state);
            for (int i = 0; i < there; i++) step(at, state, tiles[i].decays.from_beginning(D - 1), tiles[i].work, states[i + 1]);
        }
        __syncthreads();

        if (is_mine)
        {
            const Operand before = rows(at, states[warp]);
            multiply(update, before, operand(map));
            Sum output = product(rows(tile.query), before);
            each(at, output, [&](int t, int, float x) { return x * tile.decays.from_beginning(t); });
            multiply(output, operand(attention), operand(update));
            each(at, output, [&](int, int, float x) { return x * n.scale; });
            write_rows<bf16>(at, { g.output, 0 }, output, head.value(n, start) - head.lane, n.heads * n.value_dim, n.time - start, n.value_dim);
            if (g.kept.state)
            {
                const i64 place = head.tile(n, number) * D;
                Sum kept;
                each(at, kept, [&](int i, int j, float) { return states[warp].of[i][j]; });
                keep(at, g.kept.state + place, kept);
                keep(at, g.kept.update + place, update);
            }
        }
        __syncthreads();   // states and tiles may be overwritten
    }
    if (g.final_state && warp == 0)
        each(at, state, [&](int j, int i, float x) { if (i < n.key_dim && j < n.value_dim) g.final_state[state_at + i * n.value_dim + j] = x; return x; });
}

TILE_KERNELS(delta_tiles_forward, SmallArgs, 4)
