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
    Matrix key, query, out, work, map, update;   // T, later the map of G, later R; P, later T^T Gamma(15, t) K, later W; T^T P^T dO, later DU
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

template <bool DECAYS> __device__ __forceinline__ void delta_tiles_backward(const SmallBackArgs& g)
{
    DYNAMIC_SHARED(room);
    const SmallSizes& n = g.n;
    Matrix* grads = reinterpret_cast<Matrix*>(room);   // G before each tile of these eight, and after the last
    BackwardTile<DECAYS>* tiles = reinterpret_cast<BackwardTile<DECAYS>*>(grads + WARPS + 1);
    const int warp = threadIdx.x >> 5;
    const Lane at;
    const RowHalf half;
    const Place<D> head(n, blockIdx.x);
    const bool is_whole = n.key_dim == D && n.value_dim == D && ((u64)g.q | (u64)g.k | (u64)g.grad_output) % 16 == 0;
    BackwardTile<DECAYS>& tile = tiles[warp];
    const i64 state_at = (i64)head.pair * n.key_dim * n.value_dim;
    Sum grad = load_state(at, g.grad_final ? g.grad_final + state_at : nullptr, n);   // the first warp's, before all tiles so far

    for (int first = (n.tiles - 1) / WARPS * WARPS; first >= 0; first -= WARPS)
    {
        const int number = first + warp, start = number * D, there = min(WARPS, n.tiles - first), count = n.time - start;
        const bool is_mine = number < n.tiles;
        Operand state, update;   // S0 and U
        Sum grad_update;
        if (is_mine)
        {
            const int t = min(start + half.token, n.time - 1);
            const bool is_there = start + half.token < n.time;
            const uint4 key_words = fetch(g.k, head.key(n, t) - head.lane, half, n.key_dim, is_whole), query_words = fetch(g.q, head.key(n, t) - head.lane, half, n.key_dim, is_whole),
                out_words = fetch(g.grad_output, head.value(n, t) - head.lane, half, n.value_dim, is_whole);
            const i64 place = head.tile(n, number);
            const TokenCoefficients own = g.kept.coefficients[place + half.token];
            state = rows(at, [&](int i, int j) { return g.kept.state[place * D + i * D + j]; });
            update = rows(at, [&](int i, int j) { return g.kept.update[place * D + i * D + j]; });
            float x[8];
            unpack(x, key_words, is_there);
            put_half(tile.key, half, x, own.inv);
            unpack(x, query_words, is_there);
            put_half(tile.query, half, x, 1.f);
            unpack(x, out_words, is_there);
            put_half(tile.out, half, x, n.scale);
            if (half.first == 0) tile.tokens[half.token] = own;
            __syncwarp();
            tile.decays.make(tile.tokens);
            __syncwarp();

            put(at, tile.map, triangles<DECAYS>(at, rows(at, tile.key), rows(at, tile.query), tile.tokens, tile.decays, tile.work));
            __syncwarp();
            const Operand outs = columns(at, tile.out), inverse = columns(at, tile.work);
            put(at, tile.update, product(columns(at, tile.map), outs));
            __syncwarp();
            grad_update = product(inverse, columns(at, tile.update));
            Sum map = product(inverse, rows(at, [&](int i, int s) { return tile.key.of[s][i] * tile.decays.from(s, D - 1); }));
            __syncwarp();
            put(at, tile.update, grad_update);
            put(at, tile.map, map);
            __syncwarp();
            const Operand erasing = rows(at, [&](int i, int s) { return -tile.tokens[s].erase * tile.decays.from_beginning(s - 1) * tile.key.of[s][i]; });
            Sum own_part = product(rows(at, [&](int i, int s) { return tile.query.of[s][i] * tile.decays.from_beginning(s); }), outs);
            multiply(own_part, erasing, columns(at, tile.update));
            put(at, grads[warp], own_part);
            put(at, tile.work, product(erasing, columns(at, tile.map)));
        }
        __syncthreads();

        if (warp == 0)
        {
            put(at, grads[there], grad);
            __syncwarp();
            for (int i = there - 1; i >= 0; i--) step(at, grad, tiles[i].decays.from_beginning(D - 1), tiles[i].work, grads[i + 1], grads[i]);
        }
        __syncthreads();

        if (is_mine)
        {
            const Matrix& after = grads[warp + 1];
            multiply(grad_update, rows(at, tile.map), columns(at, after));
            put(at, tile.update, grad_update);
            __syncwarp();
            const Operand outs = rows(at, tile.out), grad_updates = rows(at, tile.update);
            Sum from_output = product(outs, update), from_update = product(grad_updates, update);
            const float2 own_updates = row_sums(at, [&](int t, int s, int c, int e) { return t == s ? from_update.of[c][e] : 0.f; });
            each(at, from_output, [&](int t, int s, float x) { return s <= t ? x * tile.decays.from(s, t) : 0.f; });
            each(at, from_update, [&](int t, int s, float x) { return s < t ? x * tile.decays.from(s, t - 1) : 0.f; });
            put(at, tile.work, from_output);
            put(at, tile.map, from_update);
            __syncwarp();

            const Operand keys = columns(at, tile.key);
            Sum grad_query = product(outs, state), recalled = product(grad_updates, state), grad_key = product(update, rows(at, after));
            each(at, grad_query, [&](int t, int, float x) { return x * tile.decays.from_beginning(t); });
            each(at, recalled, [&](int t, int, float x) { return x * tile.decays.from_beginning(t - 1); });
            each(at, grad_key, [&](int t, int, float x) { return x * tile.decays.from(t, D - 1); });
            float behind = 0.f;
            if (DECAYS)
            {
                float part = 0.f;
#pragma unroll
                for (int k = 0; k < 2; k++)
#pragma unroll
                    for (int c = 0; c < 2; c++)
#pragma unroll
                        for (int h = 0; h < 2; h++) part += __uint_as_float(state.of[k][c][h]) * after.of[c * 8 + at.r][k * 8 + at.c + h * 4];
                part *= tile.decays.from_beginning(D - 1);
                each(at, grad_key, [&](int t, int i, float x) { part += x * tile.key.of[t][i]; return x; });
                behind = warp_sum(part);
            }
            multiply(grad_query, rows(at, tile.work), keys);
            multiply(recalled, rows(at, tile.map), keys);
            multiply(grad_key, columns(at, tile.work), columns(at, tile.query));
            multiply(grad_key, rows(at, [&](int t, int s) { return -tile.map.of[s][t] * tile.tokens[s].erase; }), keys);
#pragma unroll
            for (int c = 0; c < 2; c++)
#pragma unroll
                for (int e = 0; e < 4; e++) grad_key.of[c][e] -= tile.tokens[at.row(e)].erase * recalled.of[c][e];

            // Scalars of each token.
            const bf16* values = (const bf16*)g.v + head.value(n, start) - head.lane;
            const int value_stride = n.heads * n.value_dim;
            const float2 recalls = row_sums(at, [&](int t, int i, int c, int e) { return tile.key.of[t][i] * recalled.of[c][e]; });
            const float2 radials = row_sums(at, [&](int t, int i, int c, int e) { return tile.key.of[t][i] * grad_key.of[c][e]; });
            const float2 squares = row_sums(at, [&](int t, int i, int, int) { return tile.key.of[t][i] * tile.key.of[t][i]; });
            const float2 writes = row_sums(at, [&](int t, int j, int c, int e) { return t < count && j < n.value_dim ? to_float(values[(i64)t * value_stride + j]) * grad_update.of[c][e] : 0.f; });
            float2 gains = make_float2(0.f, 0.f);
            if (DECAYS) gains = row_sums(at, [&](int t, int i, int c, int e) { return tile.query.of[t][i] * grad_query.of[c][e]; });
            if (at.c == 0)
            {
#pragma unroll
                for (int e = 0; e < 4; e += 2)
                {
                    const int t = at.row(e);
                    tile.recalled[t] = e ? recalls.y : recalls.x;
                    tile.grad_write[t] = e ? writes.y : writes.x;
                    tile.radial[t] = (e ? radials.y : radials.x) / fmaxf(e ? squares.y : squares.x, 0.5f);   // the rounding of the unit key taken out
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
                    grad_update.of[c][e] *= tile.tokens[t].write;
                    grad_key.of[c][e] = t < count ? tile.tokens[t].inv * grad_key.of[c][e] + tile.radial[t] * tile.key.of[t][at.column(c, e)] : 0.f;
                }
            const int key_stride = n.key_heads * n.key_dim, head_stride = n.heads * n.key_dim;
            const i64 key_at = head.key(n, start) - head.lane, head_key_at = head.scalar(n, start) * n.key_dim;
            write_rows<bf16>(at, g.value, grad_update, head.value(n, start) - head.lane, value_stride, count, n.value_dim);
            if (g.head_query) write_rows<float>(at, { g.head_query, 0 }, grad_query, head_key_at, head_stride, count, n.key_dim);
            else write_rows<bf16>(at, g.query, grad_query, key_at, key_stride, count, n.key_dim);
            if (g.head_key) write_rows<float>(at, { g.head_key, 0 }, grad_key, head_key_at, head_stride, count, n.key_dim);
            else write_rows<bf16>(at, g.key, grad_key, key_at, key_stride, count, n.key_dim);
        }
        __syncthreads();   // gradients and tiles may be overwritten
    }
    if (g.initial.to && warp == 0)
        each(at, grad, [&](int i, int j, float x) { if (i < n.key_dim && j < n.value_dim) write<float>(g.initial, state_at + i * n.value_dim + j, x); return x; });
}

TILE_KERNELS(delta_tiles_backward, SmallBackArgs, 2)
