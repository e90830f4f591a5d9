#include "delta_rule_small.cuh"

// The walk backwards and the gradients of each tile (delta_rule_small.cuh).

// ------------------------------------------------------------------------------------------------------------------------------ the walk

constexpr int GROUPS = 8;          // of threads in a block, each with a head of a sequence

template <int D> struct WalkTile { Rows<D> key, query, out; TokenCoefficients tokens[D]; };

// Thread i of a group has column i of G.
template <typename T, int D, bool DECAYS> __device__ __forceinline__ void delta_small_backward(const SmallBackArgs& g)
{
    __shared__ __align__(16) WalkTile<D> tiles[GROUPS];
    const SmallSizes& n = g.n;
    const int pair = blockIdx.x * GROUPS + threadIdx.x / D;
    const bool is_real = pair < n.pairs;
    const Place<D> at(n, min(pair, n.pairs - 1));
    const int lane = at.lane;
    const bool is_value = lane < n.value_dim;
    WalkTile<D>& tile = tiles[threadIdx.x / D];
    TileReader<T, D> keys = key_reader<T>(g.k, n, at), queries = key_reader<T>(g.q, n, at), outs = value_reader<T>(g.grad_output, n, at);
    float column[D];
#pragma unroll
    for (int i = 0; i < D; i++) column[i] = g.grad_final && is_value && i < n.key_dim ? g.grad_final[((i64)at.pair * n.key_dim + i) * n.value_dim + lane] : 0.f;

    // The tile before is on its way while one is worked at.
    TokenCoefficients own;
    auto fetch = [&](int number)
    {
        keys.fetch(number * D);
        queries.fetch(number * D);
        outs.fetch(number * D);
        own = g.kept.coefficients[at.tile(n, number) + lane];
    };
    fetch(n.tiles - 1);
    for (int number = n.tiles - 1; number >= 0; number--)
    {
        const int start = number * D;
        const i64 place = at.tile(n, number) * D + lane;
        if (is_real)
        {
#pragma unroll
            for (int i = 0; i < D; i++) g.grad_state[place + i * D] = column[i];
        }
        tile.tokens[lane] = own;
        __syncwarp();
        keys.put(tile.key, start, [&](int t) { return tile.tokens[t].inv; });
        queries.put(tile.query, start, as_it_is);
        outs.put(tile.out, start, [&](int) { return n.scale; });
        __syncwarp();
        fetch(max(number - 1, 0));

#pragma unroll 4
        for (int t = D - 1; t >= 0; t--)
        {
            const TokenCoefficients c = tile.tokens[t];
            float row[D];
            load_row<D>(row, tile.query.of[t]);
            advance<false>(column, 1.f, row, tile.out.of[t][lane]);
            load_row<D>(row, tile.key.of[t]);
            const float du = dot<D>(row, column);
            if (is_real) g.grad_update[place + t * D] = du;
            advance<DECAYS>(column, c.decay, row, -c.erase * du);
        }
        __syncwarp();   // the tile may be overwritten
    }
    if (g.initial.to && is_real && is_value)
    {
#pragma unroll
        for (int i = 0; i < D; i++)
            if (i < n.key_dim) write<float>(g.initial, ((i64)at.pair * n.key_dim + i) * n.value_dim + lane, column[i]);
    }
}

// ------------------------------------------------------------------------------------------------------------------------------ the gradients

constexpr int PART = 4;            // tokens whose states a thread holds at the same time

template <int D> struct GradientTile
{
    Rows<D> key, query, value, out, update, grad_update;   // normalised keys, scaled gradients of the output; in the end dq, dv in place of values, du
    Rows<D> recalled;                                      // S du, later dkn and dk
    TokenCoefficients tokens[D];                           // in place of `erase`, later how much of a unit key is in dk
};

// What only the gradient of decays needs: each row's part of <G, S>, and S before each part of a tile.
template <int D> struct DecayTile { Rows<D> kept; float state[D / PART][D][D + 4]; };

// A thread's part of a matrix in the rows of S: two rows, and of these the columns from `column` on. A row of a token is read by all threads of a group, so
// half of it for two rows instead of all of it for one: reading is what bounds these kernels.
template <int D> struct RowPair
{
    static constexpr int H = D / 2;
    float x[2][H];
    __device__ __forceinline__ void load(const float* rows, int stride, int row, int column)
    {
        load_row<H>(x[0], rows + row * stride + column);
        load_row<H>(x[1], rows + (row + 1) * stride + column);
    }
    __device__ __forceinline__ void store(float* rows, int stride, int row, int column) const
    {
        store_row<H>(rows + row * stride + column, x[0]);
        store_row<H>(rows + (row + 1) * stride + column, x[1]);
    }
    __device__ __forceinline__ void advance_by(float decay, float2 rows, const float (&y)[H])
    {
        advance<true>(x[0], decay, y, rows.x);   // by 1 costs no product
        advance<true>(x[1], decay, y, rows.y);
    }
};
// From the parts of two rows that two threads have each, the sum of one row to each: the even thread takes the first.
__device__ __forceinline__ float own_sum(float first, float second)
{
    const bool is_odd = threadIdx.x & 1;
    return (is_odd ? second : first) + __shfl_xor_sync(0xFFFFFFFFu, is_odd ? first : second, 1);
}

// A group per tile of a head, a warp per block. First with S forwards, then with G backwards; sums that leave a pair of threads are a token's scalars only.
template <typename T, int D, bool DECAYS> __device__ __forceinline__ void delta_small_gradients(const SmallBackArgs& g)
{
    constexpr int TILES = 32 / D, H = D / 2;
    __shared__ __align__(16) GradientTile<D> tiles[TILES];
    DYNAMIC_SHARED(room);   // DecayTile<D>[TILES] where anything decays
    const SmallSizes& n = g.n;
    const int item = blockIdx.x * TILES + threadIdx.x / D, number = min(item / n.pairs, n.tiles - 1), start = number * D;
    const Place<D> at(n, item % n.pairs);
    const int lane = at.lane, row = lane & ~1, column = (lane & 1) * H, count = item < n.pairs * n.tiles ? min(D, n.time - start) : 0;
    GradientTile<D>& tile = tiles[threadIdx.x / D];
    DecayTile<D>& decays = reinterpret_cast<DecayTile<D>*>(room)[threadIdx.x / D];
    TileReader<T, D> keys = key_reader<T>(g.k, n, at), queries = key_reader<T>(g.q, n, at), values = value_reader<T>(g.v, n, at), outs = value_reader<T>(g.grad_output, n, at);
    keys.fetch(start);
    queries.fetch(start);
    values.fetch(start);
    outs.fetch(start);
    const i64 first = at.tile(n, number), scalar = at.scalar(n, min(start + lane, n.time - 1));
    const TokenCoefficients own = g.kept.coefficients[first + lane];
    const float beta = g.beta ? g.beta[scalar] : 1.f, log_decay = g.log_decay ? g.log_decay[scalar] : 0.f;
    tile.tokens[lane] = own;
    __syncwarp();
#pragma unroll
    for (int i = 0; i < D / 4; i++)
    {
        const int piece = i * D + lane, t = piece / (D / 4), j = piece % (D / 4) * 4;
        *reinterpret_cast<float4*>(tile.update.of[t] + j) = reinterpret_cast<const float4*>(g.kept.update + first * D)[piece];
        *reinterpret_cast<float4*>(tile.grad_update.of[t] + j) = reinterpret_cast<const float4*>(g.grad_update + first * D)[piece];
    }
    keys.put(tile.key, start, [&](int t) { return tile.tokens[t].inv; });
    queries.put(tile.query, start, as_it_is);
    values.put(tile.value, start, as_it_is);
    outs.put(tile.out, start, [&](int) { return n.scale; });
    RowPair<D> s, grad;
    float y[H];
    s.load(g.kept.state + first * D, D, row, column);
    __syncwarp();
    const float grad_write = row_product<D>(tile.value.of[lane], tile.grad_update.of[lane]);
    __syncwarp();   // values may be overwritten

#pragma unroll 1
    for (int part = 0; part < D / PART; part++)
    {
        if (DECAYS) s.store(decays.state[part][0], D + 4, row, column);
#pragma unroll
        for (int i = 0; i < PART; i++)
        {
            const int t = part * PART + i;
            load_row<H>(y, tile.grad_update.of[t] + column);
            tile.recalled.of[t][lane] = own_sum(dot<H>(s.x[0], y), dot<H>(s.x[1], y));
            load_row<H>(y, tile.update.of[t] + column);
            s.advance_by(DECAYS ? tile.tokens[t].decay : 1.f, two(tile.key.of[t] + row), y);
            load_row<H>(y, tile.out.of[t] + column);
            tile.value.of[t][lane] = own_sum(dot<H>(s.x[0], y), dot<H>(s.x[1], y));
        }
    }
    grad.load(g.grad_state + first * D, D, row, column);
    __syncwarp();
    const float recalled = row_product<D>(tile.key.of[lane], tile.recalled.of[lane]), grad_erase = -own.decay * recalled;
    __syncwarp();   // so may S du

#pragma unroll 1
    for (int part = D / PART - 1; part >= 0; part--)
    {
        RowPair<D> before[PART];
        if (DECAYS)
        {
            before[0].load(decays.state[part][0], D + 4, row, column);
#pragma unroll
            for (int i = 1; i < PART; i++)
            {
                const int t = part * PART + i - 1;
                load_row<H>(y, tile.update.of[t] + column);
                before[i] = before[i - 1];
                before[i].advance_by(tile.tokens[t].decay, two(tile.key.of[t] + row), y);
            }
        }
#pragma unroll
        for (int i = PART - 1; i >= 0; i--)
        {
            const int t = part * PART + i;
            const TokenCoefficients c = tile.tokens[t];
            load_row<H>(y, tile.out.of[t] + column);
            grad.advance_by(1.f, two(tile.query.of[t] + row), y);
            if (DECAYS) decays.kept.of[t][lane] = own_sum(dot<H>(grad.x[0], before[i].x[0]), dot<H>(grad.x[1], before[i].x[1]));
            load_row<H>(y, tile.update.of[t] + column);
            tile.recalled.of[t][lane] = own_sum(dot<H>(grad.x[0], y), dot<H>(grad.x[1], y)) - c.erase * tile.recalled.of[t][lane];
            load_row<H>(y, tile.grad_update.of[t] + column);
            const float2 key = two(tile.key.of[t] + row);
            grad.advance_by(DECAYS ? c.decay : 1.f, make_float2(-c.erase * key.x, -c.erase * key.y), y);
        }
    }
    __syncwarp();

    // Through the coefficients and the key's length, a thread per token.
    if (lane < count)
    {
        const float radial = row_product<D>(tile.key.of[lane], tile.recalled.of[lane]) / fmaxf(row_product<D>(tile.key.of[lane], tile.key.of[lane]), 0.5f);   // the rounding of the unit key taken out
        const Derivatives d = derivatives(n.rule, 1.f / (own.inv * own.inv), beta, log_decay);
        // dk: what a unit key cannot follow is taken out, what acts through |k|^2 put in.
        tile.tokens[lane].erase = 2.f * (grad_erase * d.en_lambda + grad_write * d.wn_lambda) / own.inv - radial * own.inv;
        if (g.beta_target.to) write<float>(g.beta_target, scalar, grad_erase * d.en_beta + grad_write * d.wn_beta);
        if (DECAYS && g.log_decay_target.to)
        {
            float kept = 0.f;
#pragma unroll
            for (int i = 0; i < D; i++) kept += decays.kept.of[lane][i];
            write<float>(g.log_decay_target, scalar, (own.decay * kept - own.erase * recalled) * d.logg_ld + grad_erase * d.en_ld + grad_write * d.wn_ld);
        }
    }
    __syncwarp();
#pragma unroll
    for (int t = 0; t < D; t++)
    {
        const TokenCoefficients c = tile.tokens[t];
        tile.grad_update.of[t][lane] *= c.write;
        tile.recalled.of[t][lane] = c.inv * tile.recalled.of[t][lane] + c.erase * tile.key.of[t][lane];
    }
    const i64 key_at = at.key(n, start), head_key_at = at.scalar(n, start) * n.key_dim + lane;
    const int per_token = n.heads * n.key_dim;
    if (lane < n.value_dim) write_column<T, D>(g.value, tile.grad_update, at.value(n, start), values.stride, count);
    if (lane >= n.key_dim) return;
    if (g.head_query) write_column<float, D>({ g.head_query, 0 }, tile.value, head_key_at, per_token, count);
    else write_column<T, D>(g.query, tile.value, key_at, keys.stride, count);
    if (g.head_key) write_column<float, D>({ g.head_key, 0 }, tile.recalled, head_key_at, per_token, count);
    else write_column<T, D>(g.key, tile.recalled, key_at, keys.stride, count);
}

SMALL_KERNELS(delta_small_backward, SmallBackArgs, 8, 8 * GROUPS)
FLOAT_KERNELS(delta_small_backward, SmallBackArgs, 16, 16 * GROUPS)
SMALL_KERNELS(delta_small_gradients, SmallBackArgs, 8, 32)
FLOAT_KERNELS(delta_small_gradients, SmallBackArgs, 16, 32)
