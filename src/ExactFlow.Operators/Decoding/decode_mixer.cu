#include "activations.cuh"
#include "mma.cuh"
#include "overlap.cuh"
#include "delta_rule_rules.cuh"

// Everything a delta-family mixer does between its projections, for one more token of every sequence: short convolutions with their states, SiLU, key and
// query norms, the rule's coefficients, the step of the recurrence, the norm per head and the output gate. A block per sequence and key head, which owns
// the convolution states of that head's query and key, and takes the value heads that share them in turn.
//
// With unit keys n = k / |k| and the normalised coefficients,
//     p = S^T n     u = w v - e g p     S' = g S + n u^T     o = scale S'^T q = scale (g S^T q + (n . q) u)
// so S^T k and S^T q are summed in one pass over S, and S is read once and written once: 8 K V bytes, the floor of this kernel. The eight warps split the
// rows of S.
//
// A few blocks that each do little: time is latency, and counts in round trips to memory. Whatever the token before left, and all constants, are asked for
// at once, before the kernel ahead has ended: S into registers where it fits, filters and convolution states by asynchronous copies. Behind the wait lie one
// round trip for the projections and three barriers: convolved; sums over a warp's rows of S; u and the squares of the output. The coefficients, a long
// chain of dependent scalars, are computed while S is summed with raw keys and queries.

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

constexpr int WARPS = 8, THREADS = WARPS * 32;

// To 2^-22: what it multiplies comes from bfloat16 products.
__device__ __forceinline__ float sigmoid(float x) { return sigmoid_of<bf16>(x); }

// Copies a stretch of floats to shared memory, by the block: PIECES of 16 bytes that arrive by cp_wait, or one float after the other.
template <bool PIECES> __device__ __forceinline__ void stage(float* to, const float* from, int count)
{
    if constexpr (PIECES)
    {
#pragma unroll 1
        for (int i = threadIdx.x * 4; i < count; i += THREADS * 4) cp16(to + i, from + i, true);
    }
    else
        for (int i = threadIdx.x; i < count; i += THREADS) to[i] = from[i];
}

// One channel's causal convolution over its last inputs and this one, then SiLU; the state moves on by one. WIDTH: the taps where they are known, or 0.
template <int WIDTH> __device__ __forceinline__ float convolve(float x, const float* last, const float* filter, float* state, int width)
{
    float sum = 0.f;
    if constexpr (WIDTH == 4)
    {
        float4 w = *reinterpret_cast<const float4*>(filter);
        float oldest = last[0], older = last[1], old = last[2];
        state[0] = older;
        state[1] = old;
        state[2] = x;
        sum = w.x * oldest + w.y * older + w.z * old + w.w * x;
    }
    else
    {
#pragma unroll 1
        for (int i = 0; i < width - 1; i++)
        {
            sum += filter[i] * last[i];
            state[i] = i + 2 < width ? last[i + 1] : x;
        }
        sum += filter[width - 1] * x;
    }
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
    float length = g.normalize_keys ? rsqrtf(s.kk + 1e-6f) : 1.f;
    Scalars c = coefficients(g.rule, s.kk * length * length, beta, log_decay);
    u.key_factor = c.inv * length;
    u.query_factor = g.scale * rsqrtf(s.qq + 1e-6f);
    u.decay = expf(c.logg);
    u.erase = c.en * u.decay;
    u.write = c.wn;
    u.dot = s.qk * u.key_factor * u.query_factor;
    return u;
}

// Where things lie in shared memory; the host counts the same. Pieces of 16 bytes where K and V are multiples of four.
struct Room
{
    float *filters, *states, *q, *k, *v, *sums, *change, *output, *squares;
    __device__ __forceinline__ Room(float* p, int K, int V, int width)
    {
        int channels = 2 * K + V;
        filters = p;                             // of q, k and v
        states = filters + channels * width;
        q = states + channels * (width - 1);
        k = q + K;
        v = k + K;
        sums = v + V;                            // [2][warp][V]: S^T k and S^T q
        change = sums + 2 * WARPS * V;           // u times the factor of k
        output = change + V;
        squares = output + V;                    // [warp]
    }
};

// The rows of S that a warp holds in registers, four columns per lane.
template <int ROWS> struct Rows
{
    float4 s[ROWS];

    __device__ __forceinline__ void load(const float* S, int V, bool mine)
    {
#pragma unroll
        for (int i = 0; i < ROWS; i++) s[i] = mine ? *reinterpret_cast<const float4*>(S + (i64)i * V) : make_float4(0.f, 0.f, 0.f, 0.f);
    }

    // Sums over the rows with weights x, four of which are read at a time.
    __device__ __forceinline__ float4 product(const float* x) const
    {
        float4 sum = make_float4(0.f, 0.f, 0.f, 0.f);
#pragma unroll
        for (int i = 0; i < ROWS; i += 4)
        {
            float4 four = *reinterpret_cast<const float4*>(x + i);
            float w[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
            for (int j = 0; j < 4; j++)
            {
                sum.x += w[j] * s[i + j].x;
                sum.y += w[j] * s[i + j].y;
                sum.z += w[j] * s[i + j].z;
                sum.w += w[j] * s[i + j].w;
            }
        }
        return sum;
    }

    // S' = decay S + k change^T, to memory.
    __device__ __forceinline__ void update(float* S, int V, float decay, const float* k, float4 change) const
    {
#pragma unroll
        for (int i = 0; i < ROWS; i += 4)
        {
            float4 four = *reinterpret_cast<const float4*>(k + i);
            float w[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
            for (int j = 0; j < 4; j++)
                *reinterpret_cast<float4*>(S + (i64)(i + j) * V) = make_float4(decay * s[i + j].x + w[j] * change.x, decay * s[i + j].y + w[j] * change.y,
                    decay * s[i + j].z + w[j] * change.z, decay * s[i + j].w + w[j] * change.w);
        }
    }
};
template <> struct Rows<0> {};

// Where channel i of a head's query, key and value stands among the projections.
__device__ __forceinline__ int column_of(const MixerArgs& g, int i, int K, int V, int key_head, int head)
{
    return i < K ? g.query_column + key_head * K + i : i < 2 * K ? g.key_column + key_head * K + i - K : g.value_column + head * V + i - 2 * K;
}

// ROWS rows of S per warp in registers, for key_dim = 8 ROWS, value_dim a multiple of 4 up to 128, and convolutions of four taps; ROWS = 0 for any sizes.
template <int ROWS> __device__ __forceinline__ void decode_mixer(const MixerArgs& g)
{
    constexpr bool HELD = ROWS > 0;
    constexpr int WIDTH = HELD ? 4 : 0;
    DYNAMIC_SHARED(shared);
    let_next_begin();
    int tid = threadIdx.x, lane = tid & 31, warp = tid >> 5;
    int K = HELD ? ROWS * WARPS : g.key_dim, V = g.value_dim, group = g.heads / g.key_heads, key_head = blockIdx.x % g.key_heads, width = HELD ? WIDTH : g.width, past = width - 1;
    i64 b = blockIdx.x / g.key_heads, keys = (b * g.key_heads + key_head) * K, values = (b * g.heads + (i64)key_head * group) * V;
    Room room((float*)shared, K, V, width);
    float *S = g.memory + values * K, *q = room.q, *k = room.k, *v = room.v;
    const float* projected = g.projected + b * g.projected_stride;
    int channels = 2 * K + V;
    float mean = 1.f / V;
    bool mine = lane * 4 < V;
    Rows<ROWS> held;

    for (int member = 0; member < group; member++, S += (i64)K * V, values += V)
    {
        // What the token before left, and constants: nothing that the kernel ahead may still be writing.
        int head = key_head * group + member;
        float* own = S + (i64)warp * ROWS * V + lane * 4;
        if constexpr (HELD) held.load(own, V, mine);
        if (member == 0)
        {
            stage<HELD>(room.filters, g.query_filter + (i64)key_head * K * width, K * width);
            stage<HELD>(room.filters + K * width, g.key_filter + (i64)key_head * K * width, K * width);
            stage<HELD>(room.states, g.query_state + keys * past, K * past);
            stage<HELD>(room.states + K * past, g.key_state + keys * past, K * past);
        }
        stage<HELD>(room.filters + 2 * K * width, g.value_filter + (i64)head * V * width, V * width);
        stage<HELD>(room.states + 2 * K * past, g.value_state + values * past, V * past);
        if constexpr (HELD) cp_commit();
        float rate = g.decay_column < 0 ? 0.f : g.log_rate[head], bias = g.decay_column < 0 ? 0.f : g.rate_bias[head], norm = tid < V ? g.norm[tid] : 0.f;
        int first = tid + (member > 0 ? 2 * K : 0), second = first + THREADS;
        int first_column = column_of(g, first, K, V, key_head, head), second_column = column_of(g, second, K, V, key_head, head);
        if (member == 0) wait_for_previous();

        float beta = g.beta_column < 0 ? 0.f : projected[g.beta_column + head], decay = g.decay_column < 0 ? 0.f : projected[g.decay_column + head];
        float gate = g.gate_column >= 0 && tid < V ? projected[g.gate_column + head * V + tid] : 0.f;
        auto advance = [&](int i, float x)
        {
            float* state = i < K ? g.query_state + (keys + i) * past : i < 2 * K ? g.key_state + (keys + i - K) * past : g.value_state + (values + i - 2 * K) * past;
            q[i] = convolve<WIDTH>(x, room.states + i * past, room.filters + i * width, state, width);
        };
        if constexpr (HELD)
        {
            // At most two channels a thread.
            float x = first < channels ? projected[first_column] : 0.f, y = second < channels ? projected[second_column] : 0.f;
            cp_wait<0>();
            __syncthreads();
            if (first < channels) advance(first, x);
            if (second < channels) advance(second, y);
        }
        else
        {
            __syncthreads();
            for (int i = first; i < channels; i += THREADS) advance(i, projected[column_of(g, i, K, V, key_head, head)]);
        }
        beta = g.beta_column < 0 ? 1.f : g.beta_scale * sigmoid(beta);
        decay = g.decay_column < 0 ? 0.f : -expf(rate) * softplus_of(decay + bias);
        __syncthreads();

        if constexpr (HELD)
        {
            float4 recalled = held.product(k + warp * ROWS), asked = held.product(q + warp * ROWS);
            if (mine)
            {
                *reinterpret_cast<float4*>(room.sums + warp * V + lane * 4) = recalled;
                *reinterpret_cast<float4*>(room.sums + (WARPS + warp) * V + lane * 4) = asked;
            }
        }
        else
        {
            for (int c = lane; c < V; c += 32)
            {
                float recalled = 0.f, asked = 0.f;
                for (int row = warp; row < K; row += WARPS)
                {
                    float s = S[(i64)row * V + c];
                    recalled += k[row] * s;
                    asked += q[row] * s;
                }
                room.sums[warp * V + c] = recalled;
                room.sums[(WARPS + warp) * V + c] = asked;
            }
        }
        Update u = update_of(g, head_sums(q, k, K, lane), beta, decay);
        __syncthreads();

        float squares = 0.f;
#pragma unroll 1
        for (int c = tid; c < V; c += THREADS)
        {
            float p = 0.f, o = 0.f;
#pragma unroll
            for (int w = 0; w < WARPS; w++)
            {
                p += room.sums[w * V + c];
                o += room.sums[(WARPS + w) * V + c];
            }
            float change = u.write * v[c] - u.erase * u.key_factor * p;
            o = u.decay * u.query_factor * o + u.dot * change;
            room.change[c] = u.key_factor * change;
            room.output[c] = o;
            squares += o * o;
        }
        squares = warp_sum(squares);
        if (lane == 0) room.squares[warp] = squares;
        __syncthreads();

        float sum = 0.f;
#pragma unroll
        for (int w = 0; w < WARPS; w++) sum += room.squares[w];
        float factor = rsqrtf(sum * mean + g.epsilon);
#pragma unroll 1
        for (int c = tid; c < V; c += THREADS)
        {
            float y = room.output[c] * factor * (c == tid ? norm : g.norm[c]);
            if (g.gate_column >= 0)
            {
                float own_gate = c == tid ? gate : projected[g.gate_column + head * V + c];
                y *= own_gate * sigmoid(own_gate);
            }
            store(g.y, b * g.y_stride + head * V + c, y);
        }
        if constexpr (HELD)
        {
            if (mine) held.update(own, V, u.decay, k + warp * ROWS, *reinterpret_cast<const float4*>(room.change + lane * 4));
        }
        else
        {
            for (int c = lane; c < V; c += 32)
                for (int row = warp; row < K; row += WARPS) S[(i64)row * V + c] = u.decay * S[(i64)row * V + c] + k[row] * room.change[c];
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 2) decode_mixer_64(const MixerArgs g) { decode_mixer<8>(g); }
extern "C" __global__ void __launch_bounds__(THREADS, 2) decode_mixer_128(const MixerArgs g) { decode_mixer<16>(g); }
extern "C" __global__ void __launch_bounds__(THREADS, 2) decode_mixer_any(const MixerArgs g) { decode_mixer<0>(g); }
