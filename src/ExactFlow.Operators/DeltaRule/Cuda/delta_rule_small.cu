#include "elements.cuh"
#include "delta_rule_rules.cuh"

// Heads of at most 16 x 16: the state fits into the registers of a few threads, and the recurrence as it stands, token by token, costs less than any
// chunkwise form. D threads (8 or 16) share a head of a sequence; thread i has column i of the state and, backwards, also row i. Scalars are made for a
// tile of CT tokens at once, a thread per token. In normalised form (delta_rule_general.cuh), with G the gradient of the state and du that of u:
//     p = S^T kn      u = wn v - en g p      S <- g S + kn u^T      o = scale S^T q
//     G += scale q dO^T      du = G^T kn      dp = -en g du      dq = scale S dO      dv = wn du
//     dkn = G u + S dp       dwn = v . du     den = -g p . du    dlog g = g <G, S> - en g p . du     (S before the token)
//     G <- g G + kn dp^T
constexpr int CT = 8;             // tokens of a tile; states are kept for the backward pass at the beginning of each
constexpr int GROUPS = 8;          // of threads in a block, each with a head of a sequence

struct SmallSizes { i64 pairs; int heads, key_heads, key_dim, value_dim, time, tiles, rule; float scale; };
struct SmallArgs
{
    const void *q, *k, *v; const float *beta, *log_decay, *initial;   // [batch, time, keyHeads, K], [batch, time, heads, V], [batch, time, heads], [batch, heads, K, V]
    void* output; float *final_state, *boundary;                      // boundary: [batch x heads, tiles, D, D], or null
    SmallSizes n;
};
struct SmallBackArgs
{
    const void *q, *k, *v, *grad_output; const float *beta, *log_decay, *boundary, *grad_final;
    float *head_query, *head_key;   // dq and dk per value head [tokens, heads, K] where value heads share key heads, otherwise null
    Target query, key, value, beta_target, log_decay_target, initial;
    SmallSizes n; int decays;
};

struct TokenCoefficients { float en, wn, decay, inv; };

// Where a group of threads works. Groups past the last head go along with its numbers and write nothing.
template <int D> struct Place
{
    int lane, group; i64 pair, first_token; int head, key_head; bool is_real;
    __device__ __forceinline__ explicit Place(const SmallSizes& n)
    {
        lane = threadIdx.x % D;
        group = threadIdx.x / D;
        pair = (i64)blockIdx.x * GROUPS + group;
        is_real = pair < n.pairs;
        if (!is_real) pair = n.pairs - 1;
        head = (int)(pair % n.heads);
        key_head = head / (n.heads / n.key_heads);
        first_token = pair / n.heads * n.time;
    }
    __device__ __forceinline__ i64 scalar(const SmallSizes& n, int t) const { return (first_token + t) * n.heads + head; }
    __device__ __forceinline__ i64 key(const SmallSizes& n, int t) const { return ((first_token + t) * n.key_heads + key_head) * n.key_dim + lane; }
    __device__ __forceinline__ i64 value(const SmallSizes& n, int t) const { return scalar(n, t) * n.value_dim + lane; }
};

template <int D> __device__ __forceinline__ void load_row(float (&x)[D], const float* from)
{
#pragma unroll
    for (int i = 0; i < D; i += 4)
    {
        const float4 p = *reinterpret_cast<const float4*>(from + i);
        x[i] = p.x; x[i + 1] = p.y; x[i + 2] = p.z; x[i + 3] = p.w;
    }
}

// Four sums side by side, so that additions need not wait for each other.
template <int D> __device__ __forceinline__ float dot(const float (&a)[D], const float (&b)[D])
{
    float sums[4] = {};
#pragma unroll
    for (int i = 0; i < D; i++) sums[i & 3] += a[i] * b[i];
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

// The coefficients of a token from its key's row, and one over its length.
template <int D> __device__ __forceinline__ TokenCoefficients coefficients_of(const float* key, int rule, const float* beta, const float* log_decay, i64 scalar)
{
    float k[D];
    load_row<D>(k, key);
    const Scalars s = coefficients(rule, dot<D>(k, k), beta ? beta[scalar] : 1.f, log_decay ? log_decay[scalar] : 0.f);
    TokenCoefficients c;
    c.en = s.en; c.wn = s.wn; c.decay = expf(s.logg); c.inv = s.inv;
    return c;
}

template <typename T, int D> __device__ __forceinline__ void delta_small_forward(const SmallArgs& g)
{
    constexpr int R = D + 4;
    __shared__ __align__(16) float keys[GROUPS][CT][R];
    __shared__ __align__(16) float queries[GROUPS][CT][R];
    __shared__ TokenCoefficients tokens[GROUPS][CT];
    const SmallSizes& n = g.n;
    const Place<D> at(n);
    const int lane = at.lane, group = at.group;
    const bool is_key = lane < n.key_dim, is_value = lane < n.value_dim;
    float state[D], k[CT], q[CT], v[CT];
#pragma unroll
    for (int i = 0; i < D; i++) state[i] = g.initial && is_value && i < n.key_dim ? g.initial[(at.pair * n.key_dim + i) * n.value_dim + lane] : 0.f;

    // The next tile is on its way while one is worked at.
    auto fetch = [&](int start)
    {
#pragma unroll
        for (int t = 0; t < CT; t++)
        {
            const bool is_token = start + t < n.time;
            k[t] = is_token && is_key ? load((const T*)g.k, at.key(n, start + t)) : 0.f;
            q[t] = is_token && is_key ? load((const T*)g.q, at.key(n, start + t)) : 0.f;
            v[t] = is_token && is_value ? load((const T*)g.v, at.value(n, start + t)) : 0.f;
        }
    };
    fetch(0);
    for (int tile = 0; tile < n.tiles; tile++)
    {
        const int start = tile * CT;
        if (g.boundary && at.is_real)
        {
#pragma unroll
            for (int i = 0; i < D; i++) g.boundary[((at.pair * n.tiles + tile) * D + i) * D + lane] = state[i];
        }
        float own_k[CT], own_v[CT];
#pragma unroll
        for (int t = 0; t < CT; t++)
        {
            keys[group][t][lane] = own_k[t] = k[t];
            queries[group][t][lane] = q[t];
            own_v[t] = v[t];
        }
        __syncwarp();
        if (lane < CT)
        {
            TokenCoefficients c = { 0.f, 0.f, 1.f, 0.f };
            if (start + lane < n.time) c = coefficients_of<D>(keys[group][lane], n.rule, g.beta, g.log_decay, at.scalar(n, start + lane));
            tokens[group][lane] = c;
        }
        __syncwarp();
#pragma unroll
        for (int t = 0; t < CT; t++) keys[group][t][lane] = own_k[t] * tokens[group][t].inv;
        __syncwarp();
        fetch(start + CT);
#pragma unroll
        for (int t = 0; t < CT; t++)
        {
            const TokenCoefficients c = tokens[group][t];
            float row[D];
            load_row<D>(row, keys[group][t]);
            const float u = c.wn * own_v[t] - c.en * c.decay * dot<D>(row, state);
#pragma unroll
            for (int i = 0; i < D; i++) state[i] = c.decay * state[i] + row[i] * u;
            load_row<D>(row, queries[group][t]);
            if (at.is_real && is_value && start + t < n.time) store((T*)g.output, at.value(n, start + t), n.scale * dot<D>(row, state));
        }
        __syncwarp();   // the tile may be overwritten
    }
    if (g.final_state && at.is_real && is_value)
    {
#pragma unroll
        for (int i = 0; i < D; i++)
            if (i < n.key_dim) g.final_state[(at.pair * n.key_dim + i) * n.value_dim + lane] = state[i];
    }
}

// What a group shares of a tile, rows by token.
template <int D> struct SmallTile
{
    static constexpr int R = D + 4;
    float key[CT][R], query[CT][R], value[CT][R], out[CT][R];   // normalised keys; scaled gradients of the output
    float recalled[CT][R], update[CT][R], grad_update[CT][R];   // p, u, du
    float grad_key[CT][R], through[CT][R];                      // dkn; each row's part of <G, S>
    TokenCoefficients tokens[CT];
    float along[CT];
};

template <typename T, int D> __device__ __forceinline__ void delta_small_backward(const SmallBackArgs& g)
{
    __shared__ __align__(16) SmallTile<D> tiles[GROUPS];
    static_assert(sizeof(tiles) <= 48 * 1024, "more shared memory than a kernel may declare");
    const SmallSizes& n = g.n;
    const Place<D> at(n);
    const int lane = at.lane;
    SmallTile<D>& tile = tiles[at.group];
    const bool is_key = lane < n.key_dim, is_value = lane < n.value_dim;
    float column[D], row[D];   // of G
#pragma unroll
    for (int i = 0; i < D; i++)
    {
        column[i] = g.grad_final && is_value && i < n.key_dim ? g.grad_final[(at.pair * n.key_dim + i) * n.value_dim + lane] : 0.f;
        row[i] = g.grad_final && is_key && i < n.value_dim ? g.grad_final[(at.pair * n.key_dim + lane) * n.value_dim + i] : 0.f;
    }
    for (int number = n.tiles - 1; number >= 0; number--)
    {
        const int start = number * CT;
        const float* boundary = g.boundary + (at.pair * n.tiles + number) * D * D;
        float own_k[CT], before[CT][D], state[D], x[D];
#pragma unroll
        for (int t = 0; t < CT; t++)
        {
            const bool is_token = start + t < n.time;
            tile.key[t][lane] = own_k[t] = is_token && is_key ? load((const T*)g.k, at.key(n, start + t)) : 0.f;
            tile.query[t][lane] = is_token && is_key ? load((const T*)g.q, at.key(n, start + t)) : 0.f;
            tile.value[t][lane] = is_token && is_value ? load((const T*)g.v, at.value(n, start + t)) : 0.f;
            tile.out[t][lane] = is_token && is_value ? n.scale * load((const T*)g.grad_output, at.value(n, start + t)) : 0.f;
        }
#pragma unroll
        for (int i = 0; i < D; i++) state[i] = boundary[i * D + lane];
        load_row<D>(x, boundary + lane * D);
        __syncwarp();
        if (lane < CT)
        {
            TokenCoefficients c = { 0.f, 0.f, 1.f, 0.f };
            if (start + lane < n.time) c = coefficients_of<D>(tile.key[lane], n.rule, g.beta, g.log_decay, at.scalar(n, start + lane));
            tile.tokens[lane] = c;
        }
        __syncwarp();
#pragma unroll
        for (int t = 0; t < CT; t++) tile.key[t][lane] = own_k[t] *= tile.tokens[t].inv;
        __syncwarp();

        // Columns: forwards for p and u, backwards for du.
#pragma unroll
        for (int t = 0; t < CT; t++)
        {
            const TokenCoefficients c = tile.tokens[t];
            float key[D];
            load_row<D>(key, tile.key[t]);
            const float p = dot<D>(key, state), u = c.wn * tile.value[t][lane] - c.en * c.decay * p;
            tile.recalled[t][lane] = p;
            tile.update[t][lane] = u;
#pragma unroll
            for (int i = 0; i < D; i++) state[i] = c.decay * state[i] + key[i] * u;
        }
#pragma unroll
        for (int t = CT - 1; t >= 0; t--)
        {
            const TokenCoefficients c = tile.tokens[t];
            const float out = tile.out[t][lane];
            float key[D];
            load_row<D>(key, tile.query[t]);
#pragma unroll
            for (int i = 0; i < D; i++) column[i] += key[i] * out;
            load_row<D>(key, tile.key[t]);
            const float du = dot<D>(key, column), dp = -c.en * c.decay * du;
            tile.grad_update[t][lane] = du;
            if (g.value.to && at.is_real && is_value && start + t < n.time) write<T>(g.value, at.value(n, start + t), c.wn * du);
#pragma unroll
            for (int i = 0; i < D; i++) column[i] = c.decay * column[i] + key[i] * dp;
        }
        __syncwarp();

        // Rows: forwards for dq and the states before each token, backwards for dkn.
#pragma unroll
        for (int t = 0; t < CT; t++)
        {
            const TokenCoefficients c = tile.tokens[t];
            float y[D];
            load_row<D>(y, tile.update[t]);
#pragma unroll
            for (int i = 0; i < D; i++)
            {
                before[t][i] = x[i];
                x[i] = c.decay * x[i] + own_k[t] * y[i];
            }
            load_row<D>(y, tile.out[t]);
            const float dq = dot<D>(x, y);
            if (!at.is_real || !is_key || start + t >= n.time) continue;
            if (g.head_query) g.head_query[at.scalar(n, start + t) * n.key_dim + lane] = dq;
            else if (g.query.to) write<T>(g.query, at.key(n, start + t), dq);
        }
#pragma unroll
        for (int t = CT - 1; t >= 0; t--)
        {
            const TokenCoefficients c = tile.tokens[t];
            const float erase = -c.en * c.decay, q = tile.query[t][lane];
            float y[D];
            load_row<D>(y, tile.out[t]);
#pragma unroll
            for (int i = 0; i < D; i++) row[i] += q * y[i];
            load_row<D>(y, tile.update[t]);
            float grad_key = dot<D>(row, y);
            if (g.decays) tile.through[t][lane] = dot<D>(row, before[t]);
            load_row<D>(y, tile.grad_update[t]);
            grad_key += erase * dot<D>(before[t], y);
            tile.grad_key[t][lane] = grad_key;
#pragma unroll
            for (int i = 0; i < D; i++) row[i] = c.decay * row[i] + own_k[t] * erase * y[i];
        }
        __syncwarp();

        // Through the coefficients and the key's length, a thread per token.
        if (lane < CT && start + lane < n.time)
        {
            const TokenCoefficients c = tile.tokens[lane];
            const i64 scalar = at.scalar(n, start + lane);
            float a[D], b[D];
            load_row<D>(a, tile.grad_update[lane]);
            load_row<D>(b, tile.value[lane]);
            const float grad_write = dot<D>(a, b);
            load_row<D>(b, tile.recalled[lane]);
            const float recalled = c.decay * dot<D>(a, b), grad_erase = -recalled;
            load_row<D>(a, tile.grad_key[lane]);
            load_row<D>(b, tile.key[lane]);
            const float radial = dot<D>(a, b) / fmaxf(dot<D>(b, b), 0.5f);   // the rounding of the unit key taken out
            const Derivatives d = derivatives(n.rule, 1.f / (c.inv * c.inv), g.beta ? g.beta[scalar] : 1.f, g.log_decay ? g.log_decay[scalar] : 0.f);
            // dk: what a unit key cannot follow is taken out, what acts through |k|^2 put in.
            tile.along[lane] = 2.f * (grad_erase * d.en_lambda + grad_write * d.wn_lambda) / c.inv - radial * c.inv;
            if (g.beta_target.to && at.is_real) write<float>(g.beta_target, scalar, grad_erase * d.en_beta + grad_write * d.wn_beta);
            if (g.decays && g.log_decay_target.to && at.is_real)
            {
                load_row<D>(a, tile.through[lane]);
                float kept = 0.f;
#pragma unroll
                for (int i = 0; i < D; i++) kept += a[i];
                write<float>(g.log_decay_target, scalar, (c.decay * kept - c.en * recalled) * d.logg_ld + grad_erase * d.en_ld + grad_write * d.wn_ld);
            }
        }
        __syncwarp();
#pragma unroll
        for (int t = 0; t < CT; t++)
        {
            if (!at.is_real || !is_key || start + t >= n.time) continue;
            const float dk = tile.tokens[t].inv * tile.grad_key[t][lane] + tile.along[t] * own_k[t];
            if (g.head_key) g.head_key[at.scalar(n, start + t) * n.key_dim + lane] = dk;
            else if (g.key.to) write<T>(g.key, at.key(n, start + t), dk);
        }
        __syncwarp();   // the tile may be overwritten
    }
    if (g.initial.to && at.is_real && is_value)
    {
#pragma unroll
        for (int i = 0; i < D; i++)
            if (i < n.key_dim) write<float>(g.initial, (at.pair * n.key_dim + i) * n.value_dim + lane, column[i]);
    }
}

template <typename T> __device__ __forceinline__ void delta_small_forward_8(const SmallArgs& g) { delta_small_forward<T, 8>(g); }
template <typename T> __device__ __forceinline__ void delta_small_forward_16(const SmallArgs& g) { delta_small_forward<T, 16>(g); }
template <typename T> __device__ __forceinline__ void delta_small_backward_8(const SmallBackArgs& g) { delta_small_backward<T, 8>(g); }
template <typename T> __device__ __forceinline__ void delta_small_backward_16(const SmallBackArgs& g) { delta_small_backward<T, 16>(g); }

BOTH_TYPES(delta_small_forward_8, SmallArgs, 8 * GROUPS)
BOTH_TYPES(delta_small_forward_16, SmallArgs, 16 * GROUPS)
BOTH_TYPES(delta_small_backward_8, SmallBackArgs, 8 * GROUPS)
BOTH_TYPES(delta_small_backward_16, SmallBackArgs, 16 * GROUPS)
