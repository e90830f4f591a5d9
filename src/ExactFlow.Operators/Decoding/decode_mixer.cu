#include "elements.cuh"
#include "overlap.cuh"
#include "delta_rule_rules.cuh"

// Everything a delta-family mixer does between its projections, for one more token of every sequence: short convolutions with their states, SiLU, key and
// query norms, the rule's coefficients, the step of the recurrence, the norm per head and the output gate. A block per sequence and key head, which owns
// the convolution states of that head's query and key, and takes the value heads that share them in turn.
//
// With unit keys n = k / |k| and the normalised coefficients,
//     p = S^T n     u = w v - e g p     S' = g S + n u^T     o = scale S'^T q = scale (g S^T q + (n . q) u)
// so S^T n and S^T q are summed in one pass over S, and S is read once and written once: 8 K V bytes, the floor of this kernel. The eight warps split the
// rows of S. Where S fits, it is read into registers before the kernel ahead has ended: it depends on the token before only.

struct MixerArgs
{
    const float* projected; i64 projected_stride;                        // [batch, projected_stride]: the projections of x, at the columns below
    const float *query_filter, *key_filter, *value_filter;              // convolution weights [channels, width]
    float *query_state, *key_state, *value_state;                        // the last inputs [batch, channels, width - 1], oldest first
    const float *log_rate, *rate_bias, *norm;                            // [heads], [heads], [value_dim]
    float* memory;                                                       // S [batch, heads, key_dim, value_dim]
    bf16* y; i64 y_stride;                                               // [batch, heads * value_dim]
    int query_column, key_column, value_column, beta_column, decay_column, gate_column;     // -1 where there is none
    int rule, heads, key_heads, key_dim, value_dim, width, normalize_keys;
    float beta_scale, scale, epsilon;
};

constexpr int WARPS = 8;

__device__ __forceinline__ float sigmoid(float x) { return 1.f / (1.f + expf(-x)); }
__device__ __forceinline__ float softplus(float x) { return fmaxf(x, 0.f) + log1pf(expf(-fabsf(x))); }

// Copies a stretch of floats to shared memory, by the block.
__device__ __forceinline__ void stage(float* to, const float* from, int count)
{
    for (int i = threadIdx.x; i < count; i += WARPS * 32) to[i] = from[i];
}

// One channel's causal convolution over its last inputs and this one, then SiLU; the state moves on by one.
__device__ __forceinline__ float convolve(float x, const float* last, const float* filter, float* state, int width)
{
    float sum = 0.f;
    for (int i = 0; i < width - 1; i++)
    {
        sum += filter[i] * last[i];
        state[i] = i + 2 < width ? last[i + 1] : x;
    }
    sum += filter[width - 1] * x;
    return sum * sigmoid(sum);
}

// Sums over a head that every warp makes for itself.
struct HeadSums { float qq, kk, qk; };
__device__ __forceinline__ HeadSums head_sums(const float* q, const float* k, int n, int lane)
{
    HeadSums s = {0.f, 0.f, 0.f};
    for (int i = lane; i < n; i += 32)
    {
        s.qq += q[i] * q[i];
        s.kk += k[i] * k[i];
        s.qk += q[i] * k[i];
    }
    s.qq = warp_sum(s.qq);
    s.kk = warp_sum(s.kk);
    s.qk = warp_sum(s.qk);
    return s;
}

// What a token does to a head: n = key_factor k, q' = query_factor q (norms and the output's scale), decay g, erase e g, write w, and n . q'.
struct Update { float key_factor, query_factor, decay, erase, write, dot; };
__device__ __forceinline__ Update update_of(const MixerArgs& g, const HeadSums& s, float beta, float log_decay)
{
    Update u;
    float length = g.normalize_keys ? 1.f / sqrtf(s.kk + 1e-6f) : 1.f;
    Scalars c = coefficients(g.rule, s.kk * length * length, beta, log_decay);
    u.key_factor = c.inv * length;
    u.query_factor = g.scale / sqrtf(s.qq + 1e-6f);
    u.decay = expf(c.logg);
    u.erase = c.en * u.decay;
    u.write = c.wn;
    u.dot = s.qk * u.key_factor * u.query_factor;
    return u;
}

// Where things lie in shared memory; the host counts the same.
struct Room
{
    float *q, *k, *v, *sums, *output, *filters, *states;
    __device__ __forceinline__ Room(float* p, int K, int V, int width)
    {
        q = p;
        k = q + K;
        v = k + K;
        sums = v + V;                            // [2][warp][V]: S^T n and S^T q'
        output = sums + 2 * WARPS * V;
        filters = output + V;                    // of q, k and v
        states = filters + (2 * K + V) * width;
    }
};

// ROWS rows of S per warp in registers, four columns per lane, for key_dim = 8 ROWS and value_dim a multiple of 4 up to 128; ROWS = 0 for any sizes.
template <int ROWS> __device__ __forceinline__ void decode_mixer(const MixerArgs& g)
{
    constexpr int COLUMNS = ROWS > 0 ? 4 : 1;
    DYNAMIC_SHARED(shared);
    let_next_begin();
    int tid = threadIdx.x, lane = tid & 31, warp = tid >> 5;
    int K = g.key_dim, V = g.value_dim, group = g.heads / g.key_heads, key_head = blockIdx.x % g.key_heads, width = g.width, past = width - 1;
    i64 b = blockIdx.x / g.key_heads, keys = (b * g.key_heads + key_head) * K, values = (b * g.heads + (i64)key_head * group) * V;
    Room room((float*)shared, K, V, width);
    float *S = g.memory + values * K, *q = room.q, *k = room.k, *v = room.v;

    // What the token before left, and constants: nothing that the kernel ahead may still be writing.
    bool mine = ROWS > 0 && lane * 4 < V;
    float4 held[ROWS > 0 ? ROWS : 1];
#pragma unroll
    for (int i = 0; i < ROWS; i++) held[i] = mine ? *reinterpret_cast<const float4*>(S + (i64)(warp + i * WARPS) * V + lane * 4) : make_float4(0.f, 0.f, 0.f, 0.f);
    stage(room.filters, g.query_filter + (i64)key_head * K * width, K * width);
    stage(room.filters + K * width, g.key_filter + (i64)key_head * K * width, K * width);
    stage(room.states, g.query_state + keys * past, K * past);
    stage(room.states + K * past, g.key_state + keys * past, K * past);

    for (int member = 0; member < group; member++, S += (i64)K * V, values += V)
    {
        int head = key_head * group + member;
        stage(room.filters + 2 * K * width, g.value_filter + (i64)head * V * width, V * width);
        stage(room.states + 2 * K * past, g.value_state + values * past, V * past);
        float rate = g.decay_column < 0 ? 0.f : -expf(g.log_rate[head]), bias = g.decay_column < 0 ? 0.f : g.rate_bias[head];
        __syncthreads();
        if (member == 0) wait_for_previous();

        const float* projected = g.projected + b * g.projected_stride;
        float beta = g.beta_column < 0 ? 0.f : projected[g.beta_column + head], decay = g.decay_column < 0 ? 0.f : projected[g.decay_column + head];
        float gate = g.gate_column >= 0 && tid < V ? projected[g.gate_column + head * V + tid] : 0.f;
        for (int i = tid + (member > 0 ? 2 * K : 0); i < 2 * K + V; i += WARPS * 32)
        {
            int column = i < K ? g.query_column + key_head * K + i : i < 2 * K ? g.key_column + key_head * K + i - K : g.value_column + head * V + i - 2 * K;
            float* state = i < K ? g.query_state + (keys + i) * past : i < 2 * K ? g.key_state + (keys + i - K) * past : g.value_state + (values + i - 2 * K) * past;
            q[i] = convolve(projected[column], room.states + i * past, room.filters + i * width, state, width);
        }
        beta = g.beta_column < 0 ? 1.f : g.beta_scale * sigmoid(beta);
        decay = rate * softplus(decay + bias);
        __syncthreads();

        Update u = update_of(g, head_sums(q, k, K, lane), beta, decay);
        float *recalled = room.sums + warp * V, *asked = recalled + WARPS * V;
        if constexpr (ROWS > 0)
        {
            float4 p = make_float4(0.f, 0.f, 0.f, 0.f), o = p;
#pragma unroll
            for (int i = 0; i < ROWS; i++)
            {
                int row = warp + i * WARPS;
                if (member > 0 && mine) held[i] = *reinterpret_cast<const float4*>(S + (i64)row * V + lane * 4);
                float n = k[row] * u.key_factor, a = q[row] * u.query_factor;
                p.x += n * held[i].x; p.y += n * held[i].y; p.z += n * held[i].z; p.w += n * held[i].w;
                o.x += a * held[i].x; o.y += a * held[i].y; o.z += a * held[i].z; o.w += a * held[i].w;
            }
            if (mine)
            {
                *reinterpret_cast<float4*>(recalled + lane * 4) = p;
                *reinterpret_cast<float4*>(asked + lane * 4) = o;
            }
        }
        else
        {
            for (int c = lane; c < V; c += 32)
            {
                float p = 0.f, o = 0.f;
                for (int row = warp; row < K; row += WARPS)
                {
                    float s = S[(i64)row * V + c];
                    p += k[row] * s;
                    o += q[row] * s;
                }
                recalled[c] = p * u.key_factor;
                asked[c] = o * u.query_factor;
            }
        }
        __syncthreads();

        // Every warp adds up all columns, because it needs all of u for its rows of S; the first one also keeps the output.
        float squares = 0.f;
        for (int c = lane * COLUMNS; c < V; c += 32 * COLUMNS)
        {
            float change[COLUMNS];
#pragma unroll
            for (int j = 0; j < COLUMNS; j++)
            {
                float p = 0.f, o = 0.f;
#pragma unroll
                for (int w = 0; w < WARPS; w++)
                {
                    p += room.sums[w * V + c + j];
                    o += room.sums[(WARPS + w) * V + c + j];
                }
                change[j] = u.write * v[c + j] - u.erase * p;
                o = u.decay * o + u.dot * change[j];
                squares += o * o;
                if (warp == 0) room.output[c + j] = o;
            }
            if constexpr (ROWS > 0)
            {
#pragma unroll
                for (int i = 0; i < ROWS; i++)
                {
                    int row = warp + i * WARPS;
                    float n = k[row] * u.key_factor;
                    *reinterpret_cast<float4*>(S + (i64)row * V + c) = make_float4(u.decay * held[i].x + n * change[0], u.decay * held[i].y + n * change[1],
                        u.decay * held[i].z + n * change[2], u.decay * held[i].w + n * change[3]);
                }
            }
            else
            {
                for (int row = warp; row < K; row += WARPS)
                    S[(i64)row * V + c] = u.decay * S[(i64)row * V + c] + k[row] * u.key_factor * change[0];
            }
        }
        float factor = 1.f / sqrtf(warp_sum(squares) / V + g.epsilon);
        __syncthreads();
        for (int c = tid; c < V; c += WARPS * 32)
        {
            float y = room.output[c] * factor * g.norm[c];
            if (g.gate_column >= 0)
            {
                float own = c == tid ? gate : projected[g.gate_column + head * V + c];
                y *= own * sigmoid(own);
            }
            store(g.y, b * g.y_stride + head * V + c, y);
        }
    }
}

extern "C" __global__ void __launch_bounds__(WARPS * 32, 2) decode_mixer_64(const MixerArgs g) { decode_mixer<8>(g); }
extern "C" __global__ void __launch_bounds__(WARPS * 32, 2) decode_mixer_128(const MixerArgs g) { decode_mixer<16>(g); }
extern "C" __global__ void __launch_bounds__(WARPS * 32, 2) decode_mixer_any(const MixerArgs g) { decode_mixer<0>(g); }
