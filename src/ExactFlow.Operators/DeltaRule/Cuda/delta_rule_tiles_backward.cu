#include "delta_rule_tiles.cuh"

// The backward pass of delta_rule_tiles.cuh, with dO scaled, S0 the state before a tile, G1 its gradient after it, and U from the forward pass:
//     DU = T^T (Gamma(15, t) . K G1 + P^T dO)      G0 = Gamma(15) G1 + (Gamma(t) . Q)^T dO - (en g Gamma(t - 1) . K)^T DU
//     R = lower(Gamma . dO U^T)      X = Gamma(t - 1) . DU S0^T + W K, row t is S du before the token      W = strict_lower(Gamma(t - 1, s) . DU U^T)
//     dQ = Gamma(t) . dO S0^T + R K      dV = wn DU      dKn = Y - en g X
//     Y = Gamma(15, t) . U G1^T + R^T Q - W^T (en g . K), row t is G u behind the token
//     den = -g k . X      dwn = v . du      dlog g (t) = H(t) - en g k . X, where H(t), g <G, S> before the token, needs no state of its own:
//     <G, S> behind the tile comes from G1, S0 and rows of Y, and going back a token adds q . dq, -du . u and -en g k . X

template <bool DECAYS> struct BackwardTile
{
    Loaded key, query, value, out;
    Matrix map;                                             // of G
    TokenCoefficients tokens[D];
    float recalled[D], grad_write[D], radial[D], gain[D];   // of each token: k . X, v . du, the part of dkn along k, later how much of k is in dk, and q . dq - du . u
    Decays<DECAYS> decays;
};

// A token's scalars, a thread each: through the coefficients and the key's length. `behind` is <G, S> behind the tile.
template <bool DECAYS> __device__ __forceinline__ void scalar_gradients(const SmallBackArgs& g, BackwardTile<DECAYS>& tile, int t, i64 scalar, float behind)
{
    const TokenCoefficients own = tile.tokens[t];
    const float beta = g.beta ? g.beta[scalar] : 1.f, log_decay = g.log_decay ? g.log_decay[scalar] : 0.f;
    const float grad_erase = -own.decay * tile.recalled[t], grad_write = tile.grad_write[t];
    const Derivatives d = derivatives(g.n.rule, 1.f / (own.inv * own.inv), beta, log_decay);
    if (g.beta_target.to) write<float>(g.beta_target, scalar, grad_erase * d.en_beta + grad_write * d.wn_beta);
    if (DECAYS && g.log_decay_target.to)
    {
        float kept = behind;
#pragma unroll
        for (int s = D - 1; s >= 0; s--)
            if (s >= t) kept += tile.gain[s] - (s > t ? tile.tokens[s].erase * tile.recalled[s] : 0.f);
        write<float>(g.log_decay_target, scalar, (kept - own.erase * tile.recalled[t]) * d.logg_ld + grad_erase * d.en_ld + grad_write * d.wn_ld);
    }
    // dk: what a unit key cannot follow is taken out, what acts through |k|^2 put in.
    tile.radial[t] = 2.f * (grad_erase * d.en_lambda + grad_write * d.wn_lambda) / own.inv - tile.radial[t] * own.inv;
}

// A transposed tile of what the forward pass kept.
__device__ __forceinline__ Operand kept_columns(const Lane& at, const float* from)
{
    Operand x;
#pragma unroll
    for (int i = 0; i < 8; i++) x.of[i >> 2][i >> 1 & 1][i & 1] = tf32(from[((i >> 2) * 8 + at.c * 2 + (i & 1)) * D + (i >> 1 & 1) * 8 + at.r]);
    return x;
}

template <bool DECAYS> __device__ __forceinline__ void delta_tiles_backward(const SmallBackArgs& g)
{
    DYNAMIC_SHARED(room);
    const SmallSizes& n = g.n;
    Matrix* grads = reinterpret_cast<Matrix*>(room);   // G before each tile of these eight, and after the last; transposed
    BackwardTile<DECAYS>* tiles = reinterpret_cast<BackwardTile<DECAYS>*>(grads + WARPS + 1);
    const int warp = threadIdx.x >> 5;
    const Lane at;
    const RowHalf half;
    const Place<D> head(n, blockIdx.x);
    const bool is_whole = n.key_dim == D && n.value_dim == D && ((u64)g.q | (u64)g.k | (u64)g.v | (u64)g.grad_output) % 16 == 0;
    BackwardTile<DECAYS>& tile = tiles[warp];
    const TokenCoefficients* tokens = tile.tokens;
    const Decays<DECAYS>& decays = tile.decays;
    const i64 state_at = (i64)head.pair * n.key_dim * n.value_dim;
    Sum grad = {};                                     // the first warp's, before all tiles so far
    if (g.grad_final && warp == 0) grad = load_state(at, g.grad_final + state_at, n);

    for (int first = (n.tiles - 1) / WARPS * WARPS; first >= 0; first -= WARPS)
    {
        const int number = first + warp, start = number * D, there = min(WARPS, n.tiles - first), count = n.time - start;
        const bool is_mine = number < n.tiles;
        Operand state, update;     // S0 and U
        Sum grad_update, ending;   // DU without what comes from G1, and T^T Gamma(15, t) K
        if (is_mine)
        {
            const int t = min(start + half.token, n.time - 1);
            const bool is_there = start + half.token < n.time;
            const i64 key_row = head.key(n, t) - head.lane, value_row = head.value(n, t) - head.lane, place = head.tile(n, number);
            const TokenCoefficients own = g.kept.coefficients[place + half.token];
            state = kept_columns(at, g.kept.state + place * D);
            update = kept_columns(at, g.kept.update + place * D);
            const Operand inverse = kept_columns(at, g.kept.inverse + place * D);
            uint4 words[4];
            fetch(words, { { g.k, key_row, n.key_dim }, { g.q, key_row, n.key_dim }, { g.v, value_row, n.value_dim }, { g.grad_output, value_row, n.value_dim } }, half, is_whole);
            put(tile.key, half, or_zero(words[0], is_there));
            put(tile.query, half, or_zero(words[1], is_there));
            put(tile.value, half, or_zero(words[2], is_there));
            put(tile.out, half, or_zero(words[3], is_there));
            if (half.first == 0) tile.tokens[half.token] = own;
            __syncwarp();
            tile.decays.make(tokens);

            const Operand key = rows(tile.key), keys = columns(tile.key), outs = scaled(at, columns(tile.out), [&](int) { return n.scale; });
            Sum attention = product(key, rows(tile.query));   // P^T
            each(at, attention, [&](int t, int s, float x) { return s >= t ? tokens[t].inv * x * decays.from(t, s) : 0.f; });
            const Operand erasing = scaled(at, keys, [&](int s) { return -tokens[s].erase * tokens[s].inv * decays.from_beginning(s - 1); });
            const Operand keeping = scaled(at, keys, [&](int s) { return tokens[s].inv * decays.from(s, D - 1); });
            const Operand solved = operand(product(outs, operand(attention)));
            grad_update = product(inverse, solved);
            ending = product(inverse, keeping);
            Sum own_part = product(outs, scaled(at, columns(tile.query), [&](int s) { return decays.from_beginning(s); }));
            multiply(own_part, operand(product(solved, inverse)), erasing);
            put(at, grads[warp], own_part);
            put(at, tile.map, product(erasing, operand(product(keeping, inverse))));
        }
        __syncthreads();

        if (warp == 0)
        {
            put(at, grads[there], grad);
            for (int i = there - 1; i >= 0; i--) step(at, grad, tiles[i].decays.from_beginning(D - 1), tiles[i].map, grads[i]);
        }
        __syncthreads();

        if (is_mine)
        {
            const Matrix& after = grads[warp + 1];
            multiply(grad_update, operand(ending), rows(at, after));
            const Operand outs = rows(tile.out), updates = operand(grad_update), keys = columns(tile.key);
            Sum from_output = product(outs, update), to_output = product(update, outs), from_update = product(updates, update), to_update = product(update, updates);   // R, R^T, W, W^T
            const float2 own_updates = row_sums([&](int c, int e) { return at.row(e) == at.column(c, e) ? from_update.of[c][e] : 0.f; });
            each(at, from_output, [&](int t, int s, float x) { return s <= t ? x * n.scale * tokens[s].inv * decays.from(s, t) : 0.f; });
            each(at, to_output, [&](int t, int s, float x) { return s >= t ? x * n.scale * decays.from(t, s) : 0.f; });
            each(at, from_update, [&](int t, int s, float x) { return s < t ? x * tokens[s].inv * decays.from(s, t - 1) : 0.f; });
            each(at, to_update, [&](int t, int s, float x) { return s > t ? -x * tokens[s].erase * tokens[s].inv * decays.from(t, s - 1) : 0.f; });

            Sum grad_query = product(outs, state), recalled = product(updates, state), grad_key = product(update, columns(at, after));
            each(at, grad_query, [&](int t, int, float x) { return x * n.scale * decays.from_beginning(t); });
            each(at, recalled, [&](int t, int, float x) { return x * decays.from_beginning(t - 1); });
            each(at, grad_key, [&](int t, int, float x) { return x * decays.from(t, D - 1); });
            const Operand key = rows(tile.key), query = rows(tile.query), value = rows(tile.value);
            float behind = 0.f;   // <G, S> behind the tile
            if (DECAYS)
            {
                const Operand grads_after = columns(at, after);
#pragma unroll
                for (int c = 0; c < 2; c++)
#pragma unroll
                    for (int e = 0; e < 4; e++)
                        behind += number_of(state, c, e) * number_of(grads_after, c, e) * decays.from_beginning(D - 1) + grad_key.of[c][e] * tokens[at.row(e)].inv * number_of(key, c, e);
                behind = warp_sum(behind);
            }
            multiply(grad_query, operand(from_output), keys);
            multiply(recalled, operand(from_update), keys);
            multiply(grad_key, operand(to_output), columns(tile.query));
            multiply(grad_key, operand(to_update), keys);
#pragma unroll
            for (int c = 0; c < 2; c++)
#pragma unroll
                for (int e = 0; e < 4; e++) grad_key.of[c][e] -= tokens[at.row(e)].erase * recalled.of[c][e];

            // Scalars of each token.
            const float2 recalls = row_sums([&](int c, int e) { return number_of(key, c, e) * recalled.of[c][e]; });
            const float2 radials = row_sums([&](int c, int e) { return number_of(key, c, e) * grad_key.of[c][e]; });
            const float2 squares = row_sums([&](int c, int e) { return number_of(key, c, e) * number_of(key, c, e); });
            const float2 writes = row_sums([&](int c, int e) { return number_of(value, c, e) * grad_update.of[c][e]; });
            float2 gains = make_float2(0.f, 0.f);
            if (DECAYS) gains = row_sums([&](int c, int e) { return number_of(query, c, e) * grad_query.of[c][e]; });
            if (at.c == 0)
            {
#pragma unroll
                for (int e = 0; e < 4; e += 2)
                {
                    const int t = at.row(e);
                    const float inv = tokens[t].inv;
                    tile.recalled[t] = inv * (e ? recalls.y : recalls.x);
                    tile.grad_write[t] = e ? writes.y : writes.x;
                    tile.radial[t] = inv * (e ? radials.y : radials.x) / fmaxf(inv * inv * (e ? squares.y : squares.x), 0.5f);   // the rounding of the unit key taken out
                    tile.gain[t] = e ? gains.y - own_updates.y : gains.x - own_updates.x;
                }
            }
            __syncwarp();
            const int token = threadIdx.x & 31;
            if (token < min(D, count)) scalar_gradients<DECAYS>(g, tile, token, head.scalar(n, start + token), behind);
            __syncwarp();

#pragma unroll
            for (int c = 0; c < 2; c++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                {
                    const int t = at.row(e);
                    grad_update.of[c][e] *= tokens[t].write;
                    grad_key.of[c][e] = tokens[t].inv * (grad_key.of[c][e] + tile.radial[t] * number_of(key, c, e));
                }
            const int key_stride = n.key_heads * n.key_dim, head_stride = n.heads * n.key_dim;
            const i64 key_at = head.key(n, start) - head.lane, head_key_at = head.scalar(n, start) * n.key_dim;
            write_rows<bf16>(at, g.value, grad_update, head.value(n, start) - head.lane, n.heads * n.value_dim, count, n.value_dim);
            if (g.head_query) write_rows<float>(at, { g.head_query, 0 }, grad_query, head_key_at, head_stride, count, n.key_dim);
            else write_rows<bf16>(at, g.query, grad_query, key_at, key_stride, count, n.key_dim);
            if (g.head_key) write_rows<float>(at, { g.head_key, 0 }, grad_key, head_key_at, head_stride, count, n.key_dim);
            else write_rows<bf16>(at, g.key, grad_key, key_at, key_stride, count, n.key_dim);
        }
        __syncthreads();   // gradients and tiles may be overwritten
    }
    if (g.initial.to && warp == 0)
        each(at, grad, [&](int j, int i, float x) { if (i < n.key_dim && j < n.value_dim) write<float>(g.initial, state_at + i * n.value_dim + j, x); return x; });
}

TILE_KERNELS(delta_tiles_backward, SmallBackArgs, 2)
