#include "delta_rule_small.cuh"

// The walk backwards and the gradients of each tile (delta_rule_small.cuh).
struct SmallBackArgs
{
    const void *q, *k, *v, *grad_output; const float *beta, *log_decay, *grad_final;
    float *head_query, *head_key;   // dq and dk per value head [tokens, heads, K] where value heads share key heads, otherwise null
    Target query, key, value, beta_target, log_decay_target, initial;
    SmallKept kept;
    float *grad_state, *grad_update;   // G after each tile and du, as `kept`
    SmallSizes n; int decays;
};

// ------------------------------------------------------------------------------------------------------------------------------ the walk

constexpr int GROUPS = 8;          // of threads in a block, each with a head of a sequence

template <int D> struct WalkTile { Rows<D> key, query, out; TokenCoefficients tokens[D]; };

// Thread i of a group has column i of G.
template <typename T, int D> __device__ __forceinline__ void delta_small_backward(const SmallBackArgs& g)
{
    __shared__ __align__(16) WalkTile<D> tiles[GROUPS];
    const SmallSizes& n = g.n;
    const int pair = blockIdx.x * GROUPS + threadIdx.x / D;
    const bool is_real = pair < n.pairs;
    const Place<D> at(n, min(pair, n.pairs - 1));
    const int lane = at.lane;
    WalkTile<D>& tile = tiles[threadIdx.x / D];
    const Column<T> keys = key_column<T>(g.k, n, at), queries = key_column<T>(g.q, n, at), outs = value_column<T>(g.grad_output, n, at);
    float column[D];
#pragma unroll
    for (int i = 0; i < D; i++) column[i] = g.grad_final && outs.is_there && i < n.key_dim ? g.grad_final[((i64)at.pair * n.key_dim + i) * n.value_dim + lane] : 0.f;

    // The tile before is on its way while one is worked at.
    T k[D], q[D], out[D];
    TokenCoefficients own;
    auto fetch = [&](int number)
    {
        const int start = number * D;
#pragma unroll
        for (int t = 0; t < D; t++) { k[t] = keys.read(start + t); q[t] = queries.read(start + t); out[t] = outs.read(start + t); }
        own = g.kept.coefficients[at.tile(n, number) + lane];
    };
    fetch(n.tiles - 1);
    for (int number = n.tiles - 1; number >= 0; number--)
    {
        const int start = number * D;
        float* grad_state = g.grad_state + at.tile(n, number) * D + lane;
        float* grad_update = g.grad_update + at.tile(n, number) * D + lane;
        if (is_real)
        {
#pragma unroll
            for (int i = 0; i < D; i++) grad_state[i * D] = column[i];
        }
        tile.tokens[lane] = own;
        __syncwarp();
#pragma unroll
        for (int t = 0; t < D; t++)
        {
            tile.key.of[t][lane] = keys.use(k[t], start + t) * tile.tokens[t].inv;
            tile.query.of[t][lane] = queries.use(q[t], start + t);
            tile.out.of[t][lane] = n.scale * outs.use(out[t], start + t);
        }
        __syncwarp();
        fetch(max(number - 1, 0));

#pragma unroll 4
        for (int t = D - 1; t >= 0; t--)
        {
            const TokenCoefficients c = tile.tokens[t];
            float row[D];
            load_row<D>(row, tile.query.of[t]);
            advance<D>(column, 1.f, row, tile.out.of[t][lane]);
            load_row<D>(row, tile.key.of[t]);
            const float du = dot<D>(row, column);
            if (is_real) grad_update[t * D] = du;
            advance<D>(column, c.decay, row, -c.erase * du);
        }
        __syncwarp();   // the tile may be overwritten
    }
    if (g.initial.to && is_real && outs.is_there)
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
    Rows<D> key, query, value, out, update, grad_update;   // normalised keys, scaled gradients of the output; in place of queries later dkn, of values dq
    Rows<D> recalled;                                      // S du
    TokenCoefficients tokens[D];                           // in place of `erase`, later how much of a unit key is in dk
};

// What only the gradient of decays needs: each row's part of <G, S>, and the rows of S before each part of a tile.
template <int D> struct DecayTile { Rows<D> kept; float state[D / PART][D][D + 4]; };

// A group per tile of a head, a warp per block. Thread i has row i of S forwards, then row i of G backwards, so that sums cross threads for a token's scalars only.
template <typename T, int D> __device__ __forceinline__ void delta_small_gradients(const SmallBackArgs& g)
{
    constexpr int TILES = 32 / D;
    __shared__ __align__(16) GradientTile<D> tiles[TILES];
    DYNAMIC_SHARED(room);   // DecayTile<D>[TILES] where anything decays
    const SmallSizes& n = g.n;
    const int item = blockIdx.x * TILES + threadIdx.x / D, number = min(item / n.pairs, n.tiles - 1), start = number * D;
    const bool is_real = item < n.pairs * n.tiles;
    const Place<D> at(n, item % n.pairs);
    const int lane = at.lane;
    GradientTile<D>& tile = tiles[threadIdx.x / D];
    DecayTile<D>& decays = reinterpret_cast<DecayTile<D>*>(room)[threadIdx.x / D];
    const Column<T> keys = key_column<T>(g.k, n, at), queries = key_column<T>(g.q, n, at), values = value_column<T>(g.v, n, at), outs = value_column<T>(g.grad_output, n, at);
    const i64 first = at.tile(n, number), scalar = at.scalar(n, min(start + lane, n.time - 1));
    const TokenCoefficients own = g.kept.coefficients[first + lane];
    const float beta = g.beta ? g.beta[scalar] : 1.f, log_decay = g.log_decay ? g.log_decay[scalar] : 0.f;
    float x[D], y[D];
    tile.tokens[lane] = own;
    __syncwarp();
#pragma unroll 8
    for (int t = 0; t < D; t++)
    {
        const T k = keys.read(start + t), q = queries.read(start + t), v = values.read(start + t), out = outs.read(start + t);
        const float u = g.kept.update[(first + t) * D + lane], du = g.grad_update[(first + t) * D + lane];
        tile.key.of[t][lane] = keys.use(k, start + t) * tile.tokens[t].inv;
        tile.query.of[t][lane] = queries.use(q, start + t);
        tile.value.of[t][lane] = values.use(v, start + t);
        tile.out.of[t][lane] = n.scale * outs.use(out, start + t);
        tile.update.of[t][lane] = u;
        tile.grad_update.of[t][lane] = du;
    }
    __syncwarp();
    load_row<D>(x, tile.value.of[lane]);
    load_row<D>(y, tile.grad_update.of[lane]);
    const float grad_write = dot<D>(x, y);
    __syncwarp();   // values may be overwritten

    load_row<D>(x, g.kept.state + (first + lane) * D);
#pragma unroll 1
    for (int part = 0; part < D / PART; part++)
    {
        if (g.decays) store_row<D>(decays.state[part][lane], x);
#pragma unroll
        for (int i = 0; i < PART; i++)
        {
            const int t = part * PART + i;
            load_row<D>(y, tile.grad_update.of[t]);
            tile.recalled.of[t][lane] = dot<D>(x, y);
            load_row<D>(y, tile.update.of[t]);
            advance<D>(x, tile.tokens[t].decay, y, tile.key.of[t][lane]);
            load_row<D>(y, tile.out.of[t]);
            tile.value.of[t][lane] = dot<D>(x, y);
        }
    }

    load_row<D>(x, g.grad_state + (first + lane) * D);
#pragma unroll 1
    for (int part = D / PART - 1; part >= 0; part--)
    {
        float before[PART][D];
        if (g.decays)
        {
            load_row<D>(before[0], decays.state[part][lane]);
#pragma unroll
            for (int i = 1; i < PART; i++)
            {
                const int t = part * PART + i - 1;
                load_row<D>(y, tile.update.of[t]);
#pragma unroll
                for (int j = 0; j < D; j++) before[i][j] = fmaf(y[j], tile.key.of[t][lane], tile.tokens[t].decay * before[i - 1][j]);
            }
        }
#pragma unroll
        for (int i = PART - 1; i >= 0; i--)
        {
            const int t = part * PART + i;
            const TokenCoefficients c = tile.tokens[t];
            load_row<D>(y, tile.out.of[t]);
            advance<D>(x, 1.f, y, tile.query.of[t][lane]);
            if (g.decays) decays.kept.of[t][lane] = dot<D>(x, before[i]);
            load_row<D>(y, tile.update.of[t]);
            tile.query.of[t][lane] = dot<D>(x, y) - c.erase * tile.recalled.of[t][lane];
            load_row<D>(y, tile.grad_update.of[t]);
            advance<D>(x, c.decay, y, -c.erase * tile.key.of[t][lane]);
        }
    }
    __syncwarp();

    // Through the coefficients and the key's length, a thread per token.
    if (start + lane < n.time)
    {
        load_row<D>(x, tile.key.of[lane]);
        load_row<D>(y, tile.recalled.of[lane]);
        const float recalled = dot<D>(x, y), grad_erase = -own.decay * recalled, square = dot<D>(x, x);
        load_row<D>(y, tile.query.of[lane]);
        const float radial = dot<D>(x, y) / fmaxf(square, 0.5f);   // the rounding of the unit key taken out
        const Derivatives d = derivatives(n.rule, 1.f / (own.inv * own.inv), beta, log_decay);
        // dk: what a unit key cannot follow is taken out, what acts through |k|^2 put in.
        tile.tokens[lane].erase = 2.f * (grad_erase * d.en_lambda + grad_write * d.wn_lambda) / own.inv - radial * own.inv;
        if (g.beta_target.to && is_real) write<float>(g.beta_target, scalar, grad_erase * d.en_beta + grad_write * d.wn_beta);
        if (g.decays && g.log_decay_target.to && is_real)
        {
            load_row<D>(y, decays.kept.of[lane]);
            float kept = 0.f;
#pragma unroll
            for (int i = 0; i < D; i++) kept += y[i];
            write<float>(g.log_decay_target, scalar, (own.decay * kept - own.erase * recalled) * d.logg_ld + grad_erase * d.en_ld + grad_write * d.wn_ld);
        }
    }
    __syncwarp();
#pragma unroll 4
    for (int t = 0; t < D; t++)
    {
        if (!is_real || start + t >= n.time) continue;
        const TokenCoefficients c = tile.tokens[t];
        const float dv = c.write * tile.grad_update.of[t][lane], dq = tile.value.of[t][lane], dk = c.inv * tile.query.of[t][lane] + c.erase * tile.key.of[t][lane];
        if (g.value.to && values.is_there) write<T>(g.value, at.value(n, start + t), dv);
        if (!keys.is_there) continue;
        if (g.head_query) g.head_query[at.scalar(n, start + t) * n.key_dim + lane] = dq;
        else if (g.query.to) write<T>(g.query, at.key(n, start + t), dq);
        if (g.head_key) g.head_key[at.scalar(n, start + t) * n.key_dim + lane] = dk;
        else if (g.key.to) write<T>(g.key, at.key(n, start + t), dk);
    }
}

template <typename T> __device__ __forceinline__ void delta_small_backward_8(const SmallBackArgs& g) { delta_small_backward<T, 8>(g); }
template <typename T> __device__ __forceinline__ void delta_small_backward_16(const SmallBackArgs& g) { delta_small_backward<T, 16>(g); }
template <typename T> __device__ __forceinline__ void delta_small_gradients_8(const SmallBackArgs& g) { delta_small_gradients<T, 8>(g); }
template <typename T> __device__ __forceinline__ void delta_small_gradients_16(const SmallBackArgs& g) { delta_small_gradients<T, 16>(g); }

BOTH_TYPES(delta_small_backward_8, SmallBackArgs, 8 * GROUPS)
BOTH_TYPES(delta_small_backward_16, SmallBackArgs, 16 * GROUPS)
BOTH_TYPES(delta_small_gradients_8, SmallBackArgs, 32)
BOTH_TYPES(delta_small_gradients_16, SmallBackArgs, 32)
