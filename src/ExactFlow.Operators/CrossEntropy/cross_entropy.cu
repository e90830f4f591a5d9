#include "elements.cuh"

// Logits of some tokens become their losses and, in place, the gradient of the mean loss with respect to them.

#define MINUS_INFINITY __uint_as_float(0xFF800000u)
#define NOT_A_NUMBER __uint_as_float(0x7FC00000u)

struct CrossEntropyArgs
{
    void* logits;           // float32 [rows, stride]; the gradient, where wanted, replaces each row from its first byte on, in the format of the operands
    i64 stride;
    const int* targets;
    float* losses;
    float* scale;           // one over the number of targets, then their number
    float* loss;
    i64 tokens;
    int vocabulary, ignore, wants_gradient;
    int rows, lanes;        // of cross_entropy_narrow: rows of these logits, and threads for one
};

// f of each value of a thread's share of the tokens, in their order. Several are on their way at the same time: one block alone has nothing else to do meanwhile.
template <typename V, typename F> __device__ __forceinline__ void each_token(const V* values, i64 tokens, F f)
{
    constexpr int AT_A_TIME = 16;
    for (i64 start = threadIdx.x; start < tokens; start += AT_A_TIME * blockDim.x)
    {
        V x[AT_A_TIME];
#pragma unroll
        for (int i = 0; i < AT_A_TIME; i++) x[i] = values[min(start + i * (i64)blockDim.x, tokens - 1)];
#pragma unroll
        for (int i = 0; i < AT_A_TIME; i++)
            if (start + i * (i64)blockDim.x < tokens) f(x[i]);
    }
}

// The number of targets that count, and the factor that makes a sum over them a mean; one block.
extern "C" __global__ void __launch_bounds__(1024) cross_entropy_count(const CrossEntropyArgs g)
{
    __shared__ float room[32];
    float count = 0.f;
    each_token(g.targets, g.tokens, [&](int target) { count += target != g.ignore ? 1.f : 0.f; });
    count = block_sum(count, room);
    if (threadIdx.x == 0)
    {
        g.scale[0] = count > 0.f ? 1.f / count : 0.f;
        g.scale[1] = count;
    }
}

// The mean of the losses, summed in float64 in a fixed order; one block.
extern "C" __global__ void __launch_bounds__(1024) cross_entropy_mean(const CrossEntropyArgs g)
{
    __shared__ double room[1024];
    double sum = 0.0;
    each_token(g.losses, g.tokens, [&](float loss) { sum += loss; });
    room[threadIdx.x] = sum;
    __syncthreads();
    for (int half = 512; half > 0; half >>= 1)
    {
        if (threadIdx.x < half) room[threadIdx.x] += room[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x == 0) *g.loss = g.scale[1] > 0.f ? (float)(room[0] / g.scale[1]) : 0.f;
}

__device__ __forceinline__ void store4(float* p, const float (&x)[4]) { *reinterpret_cast<float4*>(p) = make_float4(x[0], x[1], x[2], x[3]); }
__device__ __forceinline__ void store4(bf16* p, const float (&x)[4]) { *reinterpret_cast<uint2*>(p) = make_uint2(pack(x[0], x[1]), pack(x[2], x[3])); }

// Four logits from i on; past the end of the vocabulary -inf, which adds nothing. Rows are padded to whole pieces.
__device__ __forceinline__ void load4(float (&x)[4], const float* row, int i, int vocabulary)
{
    float4 v = make_float4(0.f, 0.f, 0.f, 0.f);
    if (i < vocabulary) v = *reinterpret_cast<const float4*>(row + i);
    x[0] = i < vocabulary ? v.x : MINUS_INFINITY;
    x[1] = i + 1 < vocabulary ? v.y : MINUS_INFINITY;
    x[2] = i + 2 < vocabulary ? v.z : MINUS_INFINITY;
    x[3] = i + 3 < vocabulary ? v.w : MINUS_INFINITY;
}
__device__ __forceinline__ float largest4(const float (&x)[4]) { return fmaxf(fmaxf(x[0], x[1]), fmaxf(x[2], x[3])); }
__device__ __forceinline__ float exponentials4(const float (&x)[4], float top) { return (expf(x[0] - top) + expf(x[1] - top)) + (expf(x[2] - top) + expf(x[3] - top)); }
// The gradient of four logits from i on; nothing past the end.
template <typename T> __device__ __forceinline__ void store_gradient4(T* gradient, float (&x)[4], int i, int vocabulary, int target, float top, float share, float scale)
{
    if (i >= vocabulary) return;
#pragma unroll
    for (int j = 0; j < 4; j++) x[j] = expf(x[j] - top) * share - (i + j == target ? scale : 0.f);
    store4(gradient + i, x);
}

// A block per token, of many threads, so that the rows that are worked on at a time still lie in the second-level cache when the second pass reads them.
// First pass: maximum and sum of exponentials of each thread's share, together, then of the row. Second pass: the gradient.
template <typename T> __device__ __forceinline__ void cross_entropy_rows(const CrossEntropyArgs& g)
{
    __shared__ float room[32];
    float* row = (float*)g.logits + (i64)blockIdx.x * g.stride;
    T* gradient = (T*)row;
    int target = g.targets[blockIdx.x], step = blockDim.x * 4;
    if (target == g.ignore)
    {
        const float zeros[4] = { 0.f, 0.f, 0.f, 0.f };
        if (threadIdx.x == 0) g.losses[blockIdx.x] = 0.f;
        if (g.wants_gradient)
            for (int i = threadIdx.x * 4; i < g.vocabulary; i += step) store4(gradient + i, zeros);
        return;
    }

    // Two pieces a turn, so that there is always one on its way.
    float largest = MINUS_INFINITY, sum = 0.f, a[4], b[4];
    for (int i = threadIdx.x * 4; i < g.vocabulary; i += 2 * step)
    {
        load4(a, row, i, g.vocabulary);
        load4(b, row, i + step, g.vocabulary);
        float larger = fmaxf(largest, fmaxf(largest4(a), largest4(b)));
        sum = sum * expf(largest - larger) + (exponentials4(a, larger) + exponentials4(b, larger));
        largest = larger;
    }
    float top = block_max(largest, room);
    sum = block_sum(sum > 0.f ? sum * expf(largest - top) : sum, room);

    // A target outside of the vocabulary makes the loss NaN, and with it the gradient: nobody on the device can be told otherwise.
    bool is_inside = target >= 0 && target < g.vocabulary;
    if (threadIdx.x == 0) g.losses[blockIdx.x] = is_inside ? logf(sum) - (row[target] - top) : NOT_A_NUMBER;
    if (!g.wants_gradient) return;

    float scale = is_inside ? g.scale[0] : NOT_A_NUMBER, share = scale / sum;
    for (int start = 0; start < g.vocabulary; start += 2 * step)
    {
        int i = start + threadIdx.x * 4;
        load4(a, row, i, g.vocabulary);
        load4(b, row, i + step, g.vocabulary);

        // The gradient of these pieces lies where logits of them or of earlier ones were: all of the block have read theirs before any is written.
        __syncthreads();
        store_gradient4(gradient, a, i, g.vocabulary, target, top, share, scale);
        store_gradient4(gradient, b, i + step, g.vocabulary, target, top, share, scale);
    }
}

BOTH_TYPES(cross_entropy_rows, CrossEntropyArgs, 1024)

// Rows of at most 128 logits, each in the registers of `lanes` threads of a warp (a power of two), four logits in a thread.
template <typename T> __device__ __forceinline__ void cross_entropy_narrow(const CrossEntropyArgs& g)
{
    const int index = (int)((blockIdx.x * blockDim.x + threadIdx.x) / g.lanes), i = threadIdx.x % g.lanes * 4;
    const bool is_real = index < g.rows;   // threads past the last row go along and touch nothing
    float* row = (float*)g.logits + (i64)index * g.stride;
    const int target = is_real ? g.targets[index] : -1;
    const bool is_counted = target != g.ignore, is_inside = target >= 0 && target < g.vocabulary;
    float x[4];
    load4(x, row, i, is_real ? g.vocabulary : 0);
    const float asked = is_inside ? row[target] : 0.f;
    float top = largest4(x);
    for (int d = g.lanes >> 1; d > 0; d >>= 1) top = fmaxf(top, __shfl_xor_sync(0xFFFFFFFFu, top, d));
    float sum = exponentials4(x, top);
    for (int d = g.lanes >> 1; d > 0; d >>= 1) sum += __shfl_xor_sync(0xFFFFFFFFu, sum, d);
    __syncwarp();   // all of a row have read it before its gradient is written there
    if (!is_real) return;
    if (i == 0) g.losses[index] = !is_counted ? 0.f : is_inside ? logf(sum) - (asked - top) : NOT_A_NUMBER;
    if (!g.wants_gradient) return;
    const float scale = is_inside ? g.scale[0] : NOT_A_NUMBER;
    if (is_counted) store_gradient4((T*)row, x, i, g.vocabulary, target, top, scale / sum, scale);
    else if (i < g.vocabulary) store4((T*)row + i, { 0.f, 0.f, 0.f, 0.f });
}

BOTH_TYPES(cross_entropy_narrow, CrossEntropyArgs, 256)

// Targets that have the largest logit of their row, the first of equal ones, counted by class; a warp per row. A row with NaN counts for none.
struct HitsArgs { const float* logits; const int* targets; int* hits; i64 rows; int vocabulary, ignore; };

extern "C" __global__ void __launch_bounds__(256) cross_entropy_hits(const HitsArgs g)
{
    const int lane = threadIdx.x & 31;
    const i64 row = (i64)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (row >= g.rows) return;
    const int target = g.targets[row];
    if (target == g.ignore || target < 0 || target >= g.vocabulary) return;
    const float* logits = g.logits + row * g.vocabulary;
    const float asked = logits[target];
    float better = asked == asked ? 0.f : 1.f;
    for (int i = lane; i < g.vocabulary; i += 32)
    {
        const float x = logits[i];
        if (!(i < target ? x < asked : x <= asked)) better = 1.f;
    }
    better = warp_sum(better);
    if (lane == 0 && better == 0.f) atomicAdd(g.hits + target, 1);
}

// to = factor * from, or to += that; without a factor it is 1. In place nothing is done where it is.
struct ScaledArgs { Target target; const void* from; const float* factor; i64 count; int whole; };

template <typename TTo, typename TFrom> __device__ __forceinline__ void scaled(const ScaledArgs& g)
{
    const float factor = g.factor ? *g.factor : 1.f;
    const TFrom* from = (const TFrom*)g.from;
    if (factor == 1.f && g.target.to == g.from) return;
    i64 done = 0;
    if constexpr (sizeof(TTo) == sizeof(TFrom))
    {
        constexpr int N = Piece<TFrom>::N;
        i64 pieces = g.whole ? g.count / N : 0;
        EACH(p, pieces)
        {
            float x[N];
            Piece<TFrom>::load(x, from + p * N);
#pragma unroll
            for (int j = 0; j < N; j++) x[j] *= factor;
            write_piece<TTo>(g.target, p * N, x);
        }
        done = pieces * N;
    }
    EACH(i, g.count - done) write<TTo>(g.target, done + i, factor * load(from, done + i));
}

extern "C" __global__ void __launch_bounds__(256) scaled_float32(const ScaledArgs g) { scaled<float, float>(g); }
extern "C" __global__ void __launch_bounds__(256) scaled_bfloat16(const ScaledArgs g) { scaled<bf16, bf16>(g); }
extern "C" __global__ void __launch_bounds__(256) scaled_float32_to_bfloat16(const ScaledArgs g) { scaled<bf16, float>(g); }
