#include "elements.cuh"
#include "delta_rule_rules.cuh"

// Decoding: a few tokens, the state in place. One block per sequence and head and 16 value columns; the state is read once, kept in registers
// for all tokens and written once. With p = S^T kn and r = S^T q of the state before a token, u = wn v - en g p:
//     S <- g S + kn u^T            o = scale ( g r + (q . kn) u )
// so that one sum over the rows serves both.
constexpr int COLUMNS = 16, THREADS = 128;
constexpr int GROUPS = THREADS / (COLUMNS / 4);   // of threads over the rows, four columns a thread
constexpr int MAX_DIM = 256;

struct StepArgs
{
    const void *q, *k, *v; const float *beta, *log_decay;   // [batch, time, keyHeads, K], [batch, time, heads, V], [batch, time, heads]
    float* state; void* output;                             // [batch, heads, K, V], [batch, time, heads, V]
    int heads, key_heads, key_dim, value_dim, time, rule; float scale;
};

// Sums over the warp's eight row groups, for each four columns.
__device__ __forceinline__ float group_sum(float x)
{
#pragma unroll
    for (int d = COLUMNS / 4; d < 32; d <<= 1) x += __shfl_xor_sync(0xFFFFFFFFu, x, d);
    return x;
}

// Every thread holds ROWS rows, GROUPS apart, of its four columns.
template <typename T, int ROWS> __device__ __forceinline__ void step(const StepArgs& g)
{
    __shared__ float keys[MAX_DIM], queries[MAX_DIM], sums[THREADS / 32][2][COLUMNS];
    const int K = g.key_dim, V = g.value_dim, tid = threadIdx.x, lane = tid & 31, warp = tid >> 5;
    const int head = blockIdx.x % g.heads, group = tid / (COLUMNS / 4), c4 = tid % (COLUMNS / 4) * 4, v0 = blockIdx.y * COLUMNS + c4;
    const i64 sequence = blockIdx.x / g.heads;
    float* from = g.state + ((i64)blockIdx.x * K + group) * V + v0;
    const bool pieces = V % 4 == 0 && (u64)g.state % 16 == 0;
    float s[ROWS][4];
#pragma unroll
    for (int i = 0; i < ROWS; i++)
    {
        const float* row = from + (i64)i * GROUPS * V;
        const bool is_row = group + i * GROUPS < K;
        if (pieces && is_row && v0 < V) Piece<float>::load(s[i], row);
        else
#pragma unroll
            for (int j = 0; j < 4; j++) s[i][j] = is_row && v0 + j < V ? row[j] : 0.f;
    }
    for (int t = 0; t < g.time; t++)
    {
        const i64 token = sequence * g.time + t, scalar = token * g.heads + head, key = (token * g.key_heads + head / (g.heads / g.key_heads)) * K;
        float lambda = 0.f, product = 0.f;
        // Every warp sums all of key and query for itself, which spares a barrier.
        for (int i = lane; i < K; i += 32)
        {
            const float k = load((const T*)g.k, key + i), q = load((const T*)g.q, key + i);
            lambda += k * k;
            product += q * k;
            if (i / 32 % (THREADS / 32) == warp)
            {
                keys[i] = k;
                queries[i] = q;
            }
        }
        lambda = warp_sum(lambda);
        product = warp_sum(product);
        const Scalars c = coefficients(g.rule, lambda, g.beta ? g.beta[scalar] : 1.f, g.log_decay ? g.log_decay[scalar] : 0.f);
        const float decay = expf(c.logg);
        float v[4];
#pragma unroll
        for (int j = 0; j < 4; j++) v[j] = v0 + j < V ? load((const T*)g.v, scalar * V + v0 + j) : 0.f;
        __syncthreads();

        float kn[ROWS], recalled[4] = {}, read[4] = {};
#pragma unroll
        for (int i = 0; i < ROWS; i++)
        {
            const int row = group + i * GROUPS;
            kn[i] = row < K ? keys[row] * c.inv : 0.f;
            const float q = row < K ? queries[row] : 0.f;
#pragma unroll
            for (int j = 0; j < 4; j++)
            {
                recalled[j] += kn[i] * s[i][j];
                read[j] += q * s[i][j];
            }
        }
#pragma unroll
        for (int j = 0; j < 4; j++)
        {
            recalled[j] = group_sum(recalled[j]);
            read[j] = group_sum(read[j]);
            if (lane < COLUMNS / 4)
            {
                sums[warp][0][c4 + j] = recalled[j];
                sums[warp][1][c4 + j] = read[j];
            }
        }
        __syncthreads();
        float update[4];
#pragma unroll
        for (int j = 0; j < 4; j++)
        {
            float p = 0.f, r = 0.f;
#pragma unroll
            for (int w = 0; w < THREADS / 32; w++)
            {
                p += sums[w][0][c4 + j];
                r += sums[w][1][c4 + j];
            }
            update[j] = c.wn * v[j] - c.en * decay * p;
            if (group == 0 && v0 + j < V) store((T*)g.output, scalar * V + v0 + j, g.scale * (decay * r + product * c.inv * update[j]));
        }
#pragma unroll
        for (int i = 0; i < ROWS; i++)
#pragma unroll
            for (int j = 0; j < 4; j++) s[i][j] = decay * s[i][j] + kn[i] * update[j];
        __syncthreads();   // keys, queries and sums may be overwritten
    }
#pragma unroll
    for (int i = 0; i < ROWS; i++)
    {
        float* row = from + (i64)i * GROUPS * V;
        if (group + i * GROUPS >= K) continue;
        if (pieces && v0 < V) Piece<float>::store(row, s[i]);
        else
            for (int j = 0; j < 4; j++)
                if (v0 + j < V) row[j] = s[i][j];
    }
}

template <typename T> __device__ __forceinline__ void delta_step_64(const StepArgs& g) { step<T, 2>(g); }
template <typename T> __device__ __forceinline__ void delta_step_128(const StepArgs& g) { step<T, 4>(g); }
template <typename T> __device__ __forceinline__ void delta_step_256(const StepArgs& g) { step<T, 8>(g); }

BOTH_TYPES(delta_step_64, StepArgs, 128)
BOTH_TYPES(delta_step_128, StepArgs, 128)
BOTH_TYPES(delta_step_256, StepArgs, 128)
