#include "delta_rule_small.cuh"
#include "mma.cuh"

// Heads of at most 16 x 16 in bfloat16, on tensor cores (tf32, sums in float32). A tile of 16 tokens is one matrix for a warp, a block has a head of a sequence,
// and eight tiles at a time in the same three phases, forwards with S and backwards with the gradient G of the state:
//     what needs no state, all tiles at once: the triangular inverse, and the tile's map S1 = g S0 + M S0 + N of the state
//     the states between tiles, one after another, a product each
//     what needs the tile's own state, all tiles at once
// With Gamma(t, s) the product of the decays of tokens s + 1 .. t, Gamma(t) that from the beginning of the tile on, rows k of unit length (as in delta_rule_small.cuh):
//     A = strict_lower(en g . Gamma(t - 1, s) . K K^T)      T = (I + A)^-1      P = lower(Gamma . Q K^T)
//     U = T (wn V - en g Gamma(t - 1) . K S0)      O = scale (Gamma(t) . Q S0 + P U)      S1 = Gamma(15) S0 + (Gamma(15, s) . K)^T U
// The equations of the backward pass stand in delta_rule_tiles_backward.cu.

constexpr int D = 16, WARPS = 8;                     // tokens of a tile and numbers of a row; tiles of a block at a time

// Rows 4 numbers apart from multiples of 32 banks: fragments are read without conflicts.
struct Matrix { float of[D][D + 4]; };

// What a thread has of a product: numbers e of n are at row(e) and column(n, e).
struct Lane
{
    int r, c;
    __device__ __forceinline__ Lane() : r((threadIdx.x & 31) >> 2), c(threadIdx.x & 3) {}
    __device__ __forceinline__ int row(int e) const { return r + (e >> 1) * 8; }
    __device__ __forceinline__ int column(int n, int e) const { return n * 8 + c * 2 + (e & 1); }
};
struct Sum { float of[2][4]; };

// A thread's part of an operand, as rows: the same numbers whether it stands left or, transposed, right.
struct Operand { u32 of[2][2][2]; };
template <typename F> __device__ __forceinline__ Operand rows(const Lane& at, F f)
{
    Operand x;
#pragma unroll
    for (int k = 0; k < 2; k++)
#pragma unroll
        for (int n = 0; n < 2; n++)
#pragma unroll
            for (int h = 0; h < 2; h++) x.of[k][n][h] = tf32(f(n * 8 + at.r, k * 8 + at.c + h * 4));
    return x;
}
__device__ __forceinline__ Operand rows(const Lane& at, const Matrix& m) { return rows(at, [&](int i, int k) { return m.of[i][k]; }); }
__device__ __forceinline__ Operand columns(const Lane& at, const Matrix& m) { return rows(at, [&](int i, int k) { return m.of[k][i]; }); }

// d += a b^T.
__device__ __forceinline__ void multiply(Sum& d, const Operand& a, const Operand& b)
{
#pragma unroll
    for (int k = 0; k < 2; k++)
#pragma unroll
        for (int n = 0; n < 2; n++) mma_tf32(d.of[n], a.of[k][0][0], a.of[k][1][0], a.of[k][0][1], a.of[k][1][1], b.of[k][n][0], b.of[k][n][1]);
}
__device__ __forceinline__ Sum product(const Operand& a, const Operand& b)
{
    Sum d = {};
    multiply(d, a, b);
    return d;
}
// Every number becomes f(row, column, number).
template <typename F> __device__ __forceinline__ void each(const Lane& at, Sum& d, F f)
{
#pragma unroll
    for (int n = 0; n < 2; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) d.of[n][e] = f(at.row(e), at.column(n, e), d.of[n][e]);
}
__device__ __forceinline__ Sum taken(const Lane& at, const Matrix& m)
{
    Sum d;
    each(at, d, [&](int i, int j, float) { return m.of[i][j]; });
    return d;
}
__device__ __forceinline__ void put(const Lane& at, Matrix& m, const Sum& d)
{
#pragma unroll
    for (int n = 0; n < 2; n++)
#pragma unroll
        for (int e = 0; e < 4; e += 2) *reinterpret_cast<float2*>(&m.of[at.row(e)][at.column(n, e)]) = make_float2(d.of[n][e], d.of[n][e + 1]);
}
// The sums of f(row, column, n, e) over the rows that a thread has a part of, to all threads that do: row r and row r + 8.
template <typename F> __device__ __forceinline__ float2 row_sums(const Lane& at, F f)
{
    float2 sum = make_float2(0.f, 0.f);
#pragma unroll
    for (int n = 0; n < 2; n++)
#pragma unroll
        for (int e = 0; e < 2; e++)
        {
            sum.x += f(at.row(e), at.column(n, e), n, e);
            sum.y += f(at.row(e + 2), at.column(n, e), n, e + 2);
        }
#pragma unroll
    for (int d = 1; d < 4; d <<= 1)
    {
        sum.x += __shfl_xor_sync(0xFFFFFFFFu, sum.x, d);
        sum.y += __shfl_xor_sync(0xFFFFFFFFu, sum.y, d);
    }
    return sum;
}

// A thread's eight numbers of a tile in a tensor in memory: half of the row of token lane / 2.
struct RowHalf
{
    int token, first;
    __device__ __forceinline__ RowHalf() : token((threadIdx.x & 31) >> 1), first((threadIdx.x & 1) * 8) {}
};
// Rows of 16 numbers at multiples of 16 bytes come in one piece, others number by number; what is past the row is 0.
__device__ __forceinline__ uint4 fetch(const void* tensor, i64 row, const RowHalf& half, int dim, bool is_whole)
{
    const bf16* from = (const bf16*)tensor + row + half.first;
    if (is_whole) return *reinterpret_cast<const uint4*>(from);
    u32 words[4];
#pragma unroll
    for (int i = 0; i < 8; i += 2)
        words[i / 2] = (half.first + i < dim ? (u32)from[i].bits : 0u) | (half.first + i + 1 < dim ? (u32)from[i + 1].bits << 16 : 0u);
    return make_uint4(words[0], words[1], words[2], words[3]);
}
__device__ __forceinline__ void unpack(float (&x)[8], const uint4& words, bool is_there)
{
    const u32 w[4] = { words.x, words.y, words.z, words.w };
#pragma unroll
    for (int i = 0; i < 4; i++)
    {
        x[2 * i] = is_there ? __uint_as_float(w[i] << 16) : 0.f;
        x[2 * i + 1] = is_there ? __uint_as_float(w[i] & 0xFFFF0000u) : 0.f;
    }
}
__device__ __forceinline__ void put_half(Matrix& m, const RowHalf& half, const float (&x)[8], float factor)
{
    float y[8];
#pragma unroll
    for (int i = 0; i < 8; i++) y[i] = x[i] * factor;
    store_row<8>(&m.of[half.token][half.first], y);
}

// Decays within a tile. `between` has Gamma(t, s) for s <= t, and `since` Gamma(t).
template <bool DECAYS> struct Decays
{
    Matrix between; float since[D];
    __device__ __forceinline__ void make(const TokenCoefficients* tokens)
    {
        const int s = (int)(threadIdx.x & 31) - 1;   // the first thread begins before the tile
        if (s >= D) return;
        float run = 1.f;
#pragma unroll
        for (int t = 0; t < D; t++)
        {
            if (t > s) run *= tokens[t].decay;
            if (s < 0) since[t] = run;
            else between.of[t][s] = run;
        }
    }
    __device__ __forceinline__ float from(int s, int t) const { return between.of[t][s]; }
    __device__ __forceinline__ float from_beginning(int t) const { return t < 0 ? 1.f : since[t]; }
};
template <> struct Decays<false>
{
    __device__ __forceinline__ void make(const TokenCoefficients*) {}
    __device__ __forceinline__ float from(int, int) const { return 1.f; }
    __device__ __forceinline__ float from_beginning(int) const { return 1.f; }
};

// A, strictly lower, becomes T = (I + A)^-1 in its place. The two triangles on the diagonal row by row, a thread per column; below them -T22 A21 T11.
__device__ __forceinline__ void invert(const Lane& at, Matrix& m)
{
    constexpr int H = D / 2;
    const int column = threadIdx.x & (D - 1), corner = column & H;
    float x[H];
#pragma unroll
    for (int t = 0; t < H; t++)
    {
        float row[H];
        load_row<H>(row, &m.of[corner + t][corner]);
        float sum = corner + t == column ? 1.f : 0.f;
#pragma unroll
        for (int s = 0; s < t; s++) sum = fmaf(-row[s], x[s], sum);
        x[t] = sum;
    }
    __syncwarp();
    if ((threadIdx.x & 31) < D)
    {
#pragma unroll
        for (int t = 0; t < H; t++) m.of[corner + t][column] = x[t];
    }
    __syncwarp();
    // Above the diagonal is room for A21 T11, and 0 again afterwards. Of the 16 rows of these products the lower half is 0.
    float product[4] = {}, below[4] = {};
    mma_tf32(product, tf32(m.of[H + at.r][at.c]), 0u, tf32(m.of[H + at.r][at.c + 4]), 0u, tf32(m.of[at.c][at.r]), tf32(m.of[at.c + 4][at.r]));
    *reinterpret_cast<float2*>(&m.of[at.r][H + at.c * 2]) = make_float2(product[0], product[1]);
    __syncwarp();
    mma_tf32(below, tf32(m.of[H + at.r][H + at.c]), 0u, tf32(m.of[H + at.r][H + at.c + 4]), 0u, tf32(m.of[at.c][H + at.r]), tf32(m.of[at.c + 4][H + at.r]));
    __syncwarp();
    *reinterpret_cast<float2*>(&m.of[H + at.r][at.c * 2]) = make_float2(-below[0], -below[1]);
    *reinterpret_cast<float2*>(&m.of[at.r][H + at.c * 2]) = make_float2(0.f, 0.f);
    __syncwarp();
}

// T to `inverse`; P is returned.
template <bool DECAYS> __device__ __forceinline__ Sum triangles(const Lane& at, const Operand& key, const Operand& query, const TokenCoefficients* tokens, const Decays<DECAYS>& decays, Matrix& inverse)
{
    Sum a = product(key, key), p = product(query, key);
    each(at, a, [&](int t, int s, float x) { return s < t ? tokens[t].erase * x * decays.from(s, t - 1) : 0.f; });
    each(at, p, [&](int t, int s, float x) { return s <= t ? x * decays.from(s, t) : 0.f; });
    put(at, inverse, a);
    __syncwarp();
    invert(at, inverse);
    return p;
}

// A warp's step from one state to the next: what `next` has of its own, and g S + M S added.
__device__ __forceinline__ void step(const Lane& at, Sum& state, float decay, const Matrix& map, const Matrix& from, Matrix& next)
{
    Sum d = taken(at, next);
    each(at, state, [&](int, int, float x) { return decay * x; });
#pragma unroll
    for (int n = 0; n < 2; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) state.of[n][e] += d.of[n][e];
    multiply(state, rows(at, map), columns(at, from));
    put(at, next, state);
    __syncwarp();
}

__device__ __forceinline__ void write_pair(float* to, bool accumulate, float x, float y)
{
    const float2 old = accumulate ? two(to) : make_float2(0.f, 0.f);
    *reinterpret_cast<float2*>(to) = make_float2(old.x + x, old.y + y);
}
__device__ __forceinline__ void write_pair(bf16* to, bool accumulate, float x, float y)
{
    const float2 old = accumulate ? to_float2(*reinterpret_cast<const bf16x2*>(to)) : make_float2(0.f, 0.f);
    *reinterpret_cast<u32*>(to) = pack(old.x + x, old.y + y);
}
// A tile's rows to a tensor in memory, the first `count` of them, `dim` numbers each.
template <typename T> __device__ __forceinline__ void write_rows(const Lane& at, const Target& to, const Sum& d, i64 place, int stride, int count, int dim)
{
    if (!to.to) return;
#pragma unroll
    for (int e = 0; e < 4; e += 2)
    {
        if (at.row(e) >= count) continue;
#pragma unroll
        for (int n = 0; n < 2; n++)
        {
            const i64 i = place + (i64)at.row(e) * stride + at.column(n, e);
            if (dim == D && (u64)to.to % 8 == 0) write_pair((T*)to.to + i, to.accumulate, d.of[n][e], d.of[n][e + 1]);
            else
            {
                if (at.column(n, e) < dim) write<T>(to, i, d.of[n][e]);
                if (at.column(n, e) + 1 < dim) write<T>(to, i + 1, d.of[n][e + 1]);
            }
        }
    }
}

// States of a head in memory [K, V].
__device__ __forceinline__ Sum load_state(const Lane& at, const float* from, const SmallSizes& n)
{
    Sum d;
    each(at, d, [&](int i, int j, float) { return from && i < n.key_dim && j < n.value_dim ? from[i * n.value_dim + j] : 0.f; });
    return d;
}

#define TILE_KERNELS(name, Args, blocks)                                                                                          \
    extern "C" __global__ void __launch_bounds__(32 * WARPS, blocks) name##_bfloat16(const Args g) { name<false>(g); }            \
    extern "C" __global__ void __launch_bounds__(32 * WARPS, blocks) name##_decays_bfloat16(const Args g) { name<true>(g); }
