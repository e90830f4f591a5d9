#include "elements.cuh"

// One query per sequence against a cache of keys and values, which are read once. A block takes a span of the cache, one key/value head and up to four of the
// query heads that share it; its warps take four keys in turn, each lane W neighbouring columns. Every part keeps (most, total, sum): the highest score, and
// total and weighted values relative to it. Parts are joined in order: warps in shared memory, spans by a second kernel.

struct AttentionDecodeArgs
{
    const void *q, *k, *v;      // [batch, heads, dim], [batch, capacity, kv_heads, dim], [batch, capacity, kv_heads, value_dim]
    void* o;                    // [batch, heads, value_dim]
    float* parts;               // [batch, heads, splits, value_dim + 2], when there are several spans
    int batch, capacity, length, heads, kv_heads, dim, value_dim, splits, span, whole;
    float scale;
};

constexpr int KEYS = 4, WARPS = 4, HEADS = 4;
__device__ __forceinline__ float infinity() { return __int_as_float(0x7F800000); }

// W elements of a row from column W lane on. Whole rows have 32 W elements and are aligned.
template <int W> __device__ __forceinline__ void load_whole(float (&x)[W], const float* p)
{
    if constexpr (W == 2)
    {
        float2 v = *reinterpret_cast<const float2*>(p);
        x[0] = v.x; x[1] = v.y;
    }
    else
    {
#pragma unroll
        for (int i = 0; i < W; i += 4)
        {
            float4 v = *reinterpret_cast<const float4*>(p + i);
            x[i] = v.x; x[i + 1] = v.y; x[i + 2] = v.z; x[i + 3] = v.w;
        }
    }
}
template <int W> __device__ __forceinline__ void load_whole(float (&x)[W], const bf16* p)
{
    u32 words[W / 2];
    if constexpr (W == 2) words[0] = *reinterpret_cast<const u32*>(p);
    else if constexpr (W == 4)
    {
        uint2 v = *reinterpret_cast<const uint2*>(p);
        words[0] = v.x; words[1] = v.y;
    }
    else
    {
        uint4 v = *reinterpret_cast<const uint4*>(p);
        words[0] = v.x; words[1] = v.y; words[2] = v.z; words[3] = v.w;
    }
#pragma unroll
    for (int i = 0; i < W / 2; i++)
    {
        x[2 * i] = __uint_as_float(words[i] << 16);
        x[2 * i + 1] = __uint_as_float(words[i] & 0xFFFF0000u);
    }
}
template <typename T, int W> __device__ __forceinline__ void load_row(float (&x)[W], const T* row, int width, int whole, int lane)
{
    if (whole) { load_whole<W>(x, row + lane * W); return; }
#pragma unroll
    for (int i = 0; i < W; i++) x[i] = lane * W + i < width ? load(row, lane * W + i) : 0.f;
}

template <typename T, int W> __device__ __forceinline__ void decode(const AttentionDecodeArgs& g)
{
    __shared__ float room[WARPS][HEADS][32 * W], highest[WARPS][HEADS], totals[WARPS][HEADS];
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, group = g.heads / g.kv_heads, parts = (group + HEADS - 1) / HEADS;
    int split = blockIdx.x % g.splits, part = blockIdx.x / g.splits % parts, pair = blockIdx.x / g.splits / parts, batch = pair / g.kv_heads, kv_head = pair % g.kv_heads;
    int head0 = kv_head * group + part * HEADS, count = min(HEADS, group - part * HEADS);
    int first = split * g.span, last = min(g.length, first + g.span);
    i64 stride_k = (i64)g.kv_heads * g.dim, stride_v = (i64)g.kv_heads * g.value_dim, row0 = (i64)batch * g.capacity;
    const T* k = (const T*)g.k + row0 * stride_k + (i64)kv_head * g.dim;
    const T* v = (const T*)g.v + row0 * stride_v + (i64)kv_head * g.value_dim;

    float q[HEADS][W], sum[HEADS][W], most[HEADS], total[HEADS];
#pragma unroll
    for (int h = 0; h < HEADS; h++)
    {
        most[h] = -infinity();
        total[h] = 0.f;
        load_row<T, W>(q[h], (const T*)g.q + ((i64)batch * g.heads + head0 + (h < count ? h : 0)) * g.dim, g.dim, g.whole, lane);
#pragma unroll
        for (int i = 0; i < W; i++)
        {
            q[h][i] *= g.scale * 1.44269504f;
            sum[h][i] = 0.f;
        }
    }

    for (int key = first + warp * KEYS; key < last; key += WARPS * KEYS)
    {
        float keys[KEYS][W], values[KEYS][W];
#pragma unroll
        for (int j = 0; j < KEYS; j++)
        {
            i64 row = min(key + j, last - 1);
            load_row<T, W>(keys[j], k + row * stride_k, g.dim, g.whole, lane);
            load_row<T, W>(values[j], v + row * stride_v, g.value_dim, g.whole, lane);
        }
#pragma unroll
        for (int h = 0; h < HEADS; h++)
        {
            if (h >= count) continue;
            float score[KEYS], base = most[h];
#pragma unroll
            for (int j = 0; j < KEYS; j++)
            {
                float s = 0.f;
#pragma unroll
                for (int i = 0; i < W; i++) s += q[h][i] * keys[j][i];
                s = warp_sum(s);
                score[j] = key + j < last ? s : -infinity();
                base = fmaxf(base, score[j]);
            }
            float shrink = exp2f(most[h] - base);
            most[h] = base;
            total[h] *= shrink;
#pragma unroll
            for (int i = 0; i < W; i++) sum[h][i] *= shrink;
#pragma unroll
            for (int j = 0; j < KEYS; j++)
            {
                float p = exp2f(score[j] - base);
                total[h] += p;
#pragma unroll
                for (int i = 0; i < W; i++) sum[h][i] += p * values[j][i];
            }
        }
    }

#pragma unroll
    for (int h = 0; h < HEADS; h++)
    {
        if (h >= count) continue;
#pragma unroll
        for (int i = 0; i < W; i++) room[warp][h][lane * W + i] = sum[h][i];
        if (lane == 0)
        {
            highest[warp][h] = most[h];
            totals[warp][h] = total[h];
        }
    }
    __syncthreads();
    for (int h = 0; h < count; h++)
    {
        float base = highest[0][h], all = 0.f, factor[WARPS];
#pragma unroll
        for (int w = 1; w < WARPS; w++) base = fmaxf(base, highest[w][h]);
#pragma unroll
        for (int w = 0; w < WARPS; w++)
        {
            factor[w] = exp2f(highest[w][h] - base);
            all += factor[w] * totals[w][h];
        }
        i64 row = (i64)batch * g.heads + head0 + h;
        for (int i = threadIdx.x; i < g.value_dim; i += 32 * WARPS)
        {
            float x = 0.f;
#pragma unroll
            for (int w = 0; w < WARPS; w++) x += factor[w] * room[w][h][i];
            if (g.splits == 1) store((T*)g.o, row * g.value_dim + i, x / all);
            else g.parts[(row * g.splits + split) * (g.value_dim + 2) + i] = x;
        }
        if (g.splits > 1 && threadIdx.x == 0)
        {
            float* scalars = g.parts + (row * g.splits + split) * (g.value_dim + 2) + g.value_dim;
            scalars[0] = base;
            scalars[1] = all;
        }
    }
}

// Joins the spans of a query head, in order.
template <typename T> __device__ __forceinline__ void attention_decode_join(const AttentionDecodeArgs& g)
{
    i64 row = blockIdx.x, stride = g.value_dim + 2;
    const float* parts = g.parts + row * g.splits * stride;
    float base = -infinity(), total = 0.f;
    for (int s = 0; s < g.splits; s++) base = fmaxf(base, parts[s * stride + g.value_dim]);
    for (int s = 0; s < g.splits; s++) total += exp2f(parts[s * stride + g.value_dim] - base) * parts[s * stride + g.value_dim + 1];
    for (int i = threadIdx.x; i < g.value_dim; i += blockDim.x)
    {
        float x = 0.f;
        for (int s = 0; s < g.splits; s++) x += exp2f(parts[s * stride + g.value_dim] - base) * parts[s * stride + i];
        store((T*)g.o, row * g.value_dim + i, x / total);
    }
}

template <typename T> __device__ __forceinline__ void attention_decode_64(const AttentionDecodeArgs& g) { decode<T, 2>(g); }
template <typename T> __device__ __forceinline__ void attention_decode_128(const AttentionDecodeArgs& g) { decode<T, 4>(g); }
template <typename T> __device__ __forceinline__ void attention_decode_256(const AttentionDecodeArgs& g) { decode<T, 8>(g); }

BOTH_TYPES(attention_decode_64, AttentionDecodeArgs, 128)
BOTH_TYPES(attention_decode_128, AttentionDecodeArgs, 128)
BOTH_TYPES(attention_decode_256, AttentionDecodeArgs, 128)
BOTH_TYPES(attention_decode_join, AttentionDecodeArgs, 128)
