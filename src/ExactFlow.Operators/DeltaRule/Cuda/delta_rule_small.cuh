#include "elements.cuh"
#include "delta_rule_rules.cuh"

// Heads of at most 16 x 16: the state fits into the registers of a few threads, and the recurrence as it stands, token by token, costs less than any
// chunkwise form. D threads (8 or 16) share a head of a sequence. In normalised form (delta_rule_general.cuh), with G the gradient of the state and du that of u:
//     p = S^T kn      u = wn v - en g p      S <- g S + kn u^T      o = scale S^T q
//     G += scale q dO^T      du = G^T kn      dp = -en g du      dq = scale S dO      dv = wn du
//     dkn = G u + S dp       dwn = v . du     den = -g p . du    dlog g = g <G, S> - en g p . du     (S before the token)
//     G <- g G + kn dp^T
// G needs nothing of S, so two walks suffice, forwards with S and backwards with G, each thread with a column. Both keep what they hold at the edges of tiles
// of D tokens, and u and du of each token; with these every tile has its gradients for itself, all tiles at the same time.

struct SmallSizes { int pairs, heads, key_heads, key_dim, value_dim, time, tiles, rule; float scale; };   // pairs: heads of all sequences

// en g, wn, g and one over the key's length.
struct __align__(16) TokenCoefficients { float erase, write, decay, inv; };

// What the walks leave: coefficients [pairs, tiles, D]; S before and G after each tile [pairs, tiles, D, D]; u and du [pairs, tiles, D, D], a row per token.
struct SmallKept { TokenCoefficients* coefficients; float *state, *update; };

// A matrix of a tile, a row per token. Rows are 4 numbers apart from multiples of 32 banks and groups D: neither a row per thread nor a number per thread meets another.
template <int D> struct Rows { float of[D][D + 4], apart[D]; };

// Where a group of threads works. Groups past the last head go along with its numbers and write nothing.
template <int D> struct Place
{
    int lane, pair, head, key_head; i64 first_token;
    __device__ __forceinline__ Place(const SmallSizes& n, int pair) : lane(threadIdx.x % D), pair(pair), head(pair % n.heads)
    {
        key_head = head / (n.heads / n.key_heads);
        first_token = (i64)(pair / n.heads) * n.time;
    }
    __device__ __forceinline__ i64 scalar(const SmallSizes& n, int t) const { return (first_token + t) * n.heads + head; }
    __device__ __forceinline__ i64 key(const SmallSizes& n, int t) const { return ((first_token + t) * n.key_heads + key_head) * n.key_dim + lane; }
    __device__ __forceinline__ i64 value(const SmallSizes& n, int t) const { return scalar(n, t) * n.value_dim + lane; }
    __device__ __forceinline__ i64 tile(const SmallSizes& n, int number) const { return ((i64)pair * n.tiles + number) * D; }   // of rows that the walks leave
};

// A thread's number of each token. Reading has no branch, so that all numbers of a tile are on their way at once: past the last token or the end of a row
// another number is read, and made 0 where it is used, which is also where it is waited for.
template <typename T> struct Column
{
    const T* first; int stride, last; bool is_there;
    __device__ __forceinline__ T read(int start, int t) const { return (first + (i64)start * stride)[min(t, last - start) * stride]; }
    __device__ __forceinline__ float use(T x, int start, int t) const { return is_there && t <= last - start ? load(&x, 0) : 0.f; }
};
template <typename T, int D> __device__ __forceinline__ Column<T> key_column(const void* from, const SmallSizes& n, const Place<D>& at)
{
    const bool is_there = at.lane < n.key_dim;
    return { (const T*)from + at.key(n, 0) - (is_there ? 0 : at.lane), n.key_heads * n.key_dim, n.time - 1, is_there };
}
template <typename T, int D> __device__ __forceinline__ Column<T> value_column(const void* from, const SmallSizes& n, const Place<D>& at)
{
    const bool is_there = at.lane < n.value_dim;
    return { (const T*)from + at.value(n, 0) - (is_there ? 0 : at.lane), n.heads * n.value_dim, n.time - 1, is_there };
}

template <int D> __device__ __forceinline__ void load_row(float (&x)[D], const float* from)
{
#pragma unroll
    for (int i = 0; i < D; i += 4)
    {
        const float4 p = *reinterpret_cast<const float4*>(from + i);
        x[i] = p.x; x[i + 1] = p.y; x[i + 2] = p.z; x[i + 3] = p.w;
    }
}
template <int D> __device__ __forceinline__ void store_row(float* to, const float (&x)[D])
{
#pragma unroll
    for (int i = 0; i < D; i += 4) *reinterpret_cast<float4*>(to + i) = make_float4(x[i], x[i + 1], x[i + 2], x[i + 3]);
}

// Four sums side by side, so that additions need not wait for each other.
template <int D> __device__ __forceinline__ float dot(const float (&a)[D], const float (&b)[D])
{
    float sums[4] = {};
#pragma unroll
    for (int i = 0; i < D; i++) sums[i & 3] += a[i] * b[i];
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}
template <int D> __device__ __forceinline__ float row_product(const float* a, const float* b)
{
    float x[D], y[D];
    load_row<D>(x, a);
    load_row<D>(y, b);
    return dot<D>(x, y);
}
__device__ __forceinline__ float2 two(const float* from) { return *reinterpret_cast<const float2*>(from); }

// x <- decay x + row y: a step of a column or a row of S or G.
template <int D> __device__ __forceinline__ void advance(float (&x)[D], float decay, const float (&row)[D], float y)
{
#pragma unroll
    for (int i = 0; i < D; i++) x[i] = fmaf(row[i], y, decay * x[i]);
}
