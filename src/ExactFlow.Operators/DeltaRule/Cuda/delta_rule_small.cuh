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

struct SmallSizes { int pairs, heads, key_heads, per_key, key_dim, value_dim, time, tiles, rule; float scale; };   // pairs: heads of all sequences; per_key: heads of a key head

// en g, wn, g and one over the key's length.
struct __align__(16) TokenCoefficients { float erase, write, decay, inv; };

// What the walks leave: coefficients [pairs, tiles, D]; S before and G after each tile [pairs, tiles, D, D]; u and du [pairs, tiles, D, D], a row per token. In tiles
// (delta_rule_tiles.cuh) the transposes, and T.
struct SmallKept { TokenCoefficients* coefficients; float *state, *update, *inverse; };

// What the forward and the backward pass are called with.
struct SmallArgs
{
    const void *q, *k, *v; const float *beta, *log_decay, *initial;   // [batch, time, keyHeads, K], [batch, time, heads, V], [batch, time, heads], [batch, heads, K, V]
    void* output; float* final_state;
    SmallKept kept;                                                   // for the backward pass, or null
    SmallSizes n;
};
struct SmallBackArgs
{
    const void *q, *k, *v, *grad_output; const float *beta, *log_decay, *grad_final;
    float *head_query, *head_key;   // dq and dk per value head [tokens, heads, K] where value heads share key heads, otherwise null
    Target query, key, value, beta_target, log_decay_target, initial;
    SmallKept kept;
    float *grad_state, *grad_update;   // G after each tile and du, as `kept`
    SmallSizes n;
};

// A matrix of a tile, a row per token. Rows are 4 numbers apart from multiples of 32 banks and groups D: neither a row per thread nor a number per thread meets another.
template <int D> struct Rows { float of[D][D + 4], apart[D]; };

// Where a group of threads works. Groups past the last head go along with its numbers and write nothing.
template <int D> struct Place
{
    int lane, pair, head, key_head; i64 first_token;
    __device__ __forceinline__ Place(const SmallSizes& n, int pair) : lane(threadIdx.x % D), pair(pair)
    {
        const u32 sequence = (u32)pair / (u32)n.heads;   // a quotient costs as much as a product of tiles, and more with a sign
        head = pair - (int)sequence * n.heads;
        key_head = n.per_key == 1 ? head : (int)((u32)head / (u32)n.per_key);
        first_token = (i64)sequence * n.time;
    }
    __device__ __forceinline__ i64 scalar(const SmallSizes& n, int t) const { return (first_token + t) * n.heads + head; }
    __device__ __forceinline__ i64 key(const SmallSizes& n, int t) const { return ((first_token + t) * n.key_heads + key_head) * n.key_dim + lane; }
    __device__ __forceinline__ i64 value(const SmallSizes& n, int t) const { return scalar(n, t) * n.value_dim + lane; }
    __device__ __forceinline__ i64 tile(const SmallSizes& n, int number) const { return ((i64)pair * n.tiles + number) * D; }   // of rows that the walks leave
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
template <int D> __device__ __forceinline__ void store_row(float* to, const float (&x)[D])
{
#pragma unroll
    for (int i = 0; i < D; i += 4) *reinterpret_cast<float4*>(to + i) = make_float4(x[i], x[i + 1], x[i + 2], x[i + 3]);
}

// A head's rows of a tensor, a tile at a time: on their way in registers, then as floats in shared memory. Reading has no branch, so that a whole tile is on its
// way at once: past the last token that one is read again, and made 0 where it is used, which is also where it is waited for. Rows of D numbers at multiples of
// 16 bytes come in pieces of 16 bytes, spread over the group; others number by number, thread i the i-th of each.
template <typename T, int D> struct TileReader
{
    static constexpr int N = Piece<T>::N, PIECES = D / N;   // numbers of a piece, and pieces of a row: as many as a thread has of a tile
    const T* first; int stride, last, dim, lane; bool is_whole;
    u32 words[D];
    __device__ __forceinline__ TileReader(const void* tensor, i64 row, int stride, int dim, const SmallSizes& n, int lane)
        : first((const T*)tensor + row), stride(stride), last(n.time - 1), dim(dim), lane(lane), is_whole(dim == D && (u64)tensor % 16 == 0) {}
    __device__ __forceinline__ void fetch(int start)
    {
        const T* rows = first + (i64)start * stride;
        const int left = last - start;
        if (is_whole)
        {
#pragma unroll
            for (int p = 0; p < PIECES; p++)
            {
                const int piece = p * D + lane;
                const uint4 w = *reinterpret_cast<const uint4*>(rows + min(piece / PIECES, left) * stride + piece % PIECES * N);
                words[4 * p] = w.x; words[4 * p + 1] = w.y; words[4 * p + 2] = w.z; words[4 * p + 3] = w.w;
            }
        }
        else
        {
            const int number = min(lane, dim - 1);
#pragma unroll
            for (int t = 0; t < D; t++) words[t] = bits(rows[min(t, left) * stride + number]);
        }
    }
    // Row t times factor(t).
    template <typename F> __device__ __forceinline__ void put(Rows<D>& to, int start, F factor) const
    {
        const int left = last - start;
        if (is_whole)
        {
#pragma unroll
            for (int p = 0; p < PIECES; p++)
            {
                const int piece = p * D + lane, t = piece / PIECES;
                const float f = factor(t);
                float x[N];
#pragma unroll
                for (int j = 0; j < N; j++) x[j] = number(p, j, t <= left) * f;
                store_row<N>(to.of[t] + piece % PIECES * N, x);
            }
        }
        else
        {
#pragma unroll
            for (int t = 0; t < D; t++) to.of[t][lane] = t <= left && lane < dim ? float_of((T*)0, words[t]) * factor(t) : 0.f;
        }
    }
private:
    static __device__ __forceinline__ u32 bits(float x) { return __float_as_uint(x); }
    static __device__ __forceinline__ u32 bits(bf16 x) { return x.bits; }
    static __device__ __forceinline__ float float_of(const float*, u32 word) { return __uint_as_float(word); }
    static __device__ __forceinline__ float float_of(const bf16*, u32 word) { return __uint_as_float(word << 16); }
    // Number j of piece p, or 0: words are made 0 before they are taken apart.
    __device__ __forceinline__ float number(int p, int j, bool is_there) const
    {
        const u32 word = is_there ? words[4 * p + j * 4 / N] : 0u;
        return __uint_as_float(N == 4 ? word : j % 2 ? word & 0xFFFF0000u : word << 16);
    }
};
template <typename T, int D> __device__ __forceinline__ TileReader<T, D> key_reader(const void* tensor, const SmallSizes& n, const Place<D>& at)
{
    return TileReader<T, D>(tensor, at.key(n, 0) - at.lane, n.key_heads * n.key_dim, n.key_dim, n, at.lane);
}
template <typename T, int D> __device__ __forceinline__ TileReader<T, D> value_reader(const void* tensor, const SmallSizes& n, const Place<D>& at)
{
    return TileReader<T, D>(tensor, at.value(n, 0) - at.lane, n.heads * n.value_dim, n.value_dim, n, at.lane);
}
__device__ __forceinline__ float as_it_is(int) { return 1.f; }

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

// x <- decay x + row y: a step of a column or a row of S or G. Rules that do not decay spare a product.
template <bool DECAYS, int D> __device__ __forceinline__ void advance(float (&x)[D], float decay, const float (&row)[D], float y)
{
#pragma unroll
    for (int i = 0; i < D; i++) x[i] = fmaf(row[i], y, DECAYS ? decay * x[i] : x[i]);
}

// A thread's number of each token to where it is wanted.
template <typename T, int D> __device__ __forceinline__ void write_column(const Target& to, const Rows<D>& from, i64 place, int stride, int count)
{
    if (!to.to) return;
#pragma unroll 4
    for (int t = 0; t < count; t++, place += stride) write<T>(to, place, from.of[t][threadIdx.x % D]);
}

// The instances of a kernel template `name<T, D, DECAYS>(const Args&)` for heads of at most D x D; rules that do not decay spare much.
#define FLOAT_KERNELS(name, Args, D, threads)                                                                                                      \
    extern "C" __global__ void __launch_bounds__(threads) name##_##D##_float32(const Args g) { name<float, D, false>(g); }                         \
    extern "C" __global__ void __launch_bounds__(threads) name##_##D##_decays_float32(const Args g) { name<float, D, true>(g); }
#define SMALL_KERNELS(name, Args, D, threads)                                                                                                      \
    FLOAT_KERNELS(name, Args, D, threads)                                                                                                          \
    extern "C" __global__ void __launch_bounds__(threads) name##_##D##_bfloat16(const Args g) { name<bf16, D, false>(g); }                         \
    extern "C" __global__ void __launch_bounds__(threads) name##_##D##_decays_bfloat16(const Args g) { name<bf16, D, true>(g); }
