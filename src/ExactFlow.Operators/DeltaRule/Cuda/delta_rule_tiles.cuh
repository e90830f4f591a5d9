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

// Between lanes a matrix goes through shared memory, in rows of float32 or as the numbers came.
struct Matrix { float of[D][D + 4]; };
struct __align__(16) Loaded { bf16 of[D][D + 8]; };

// What a thread has of a product: numbers e of n are at row(e) and column(n, e).
struct Lane
{
    int r, c;
    __device__ __forceinline__ Lane() : r((threadIdx.x & 31) >> 2), c(threadIdx.x & 3) {}
    __device__ __forceinline__ int row(int e) const { return r + (e >> 1) * 8; }
    __device__ __forceinline__ int column(int n, int e) const { return n * 8 + c * 2 + (e & 1); }
};
struct Sum { float of[2][4]; };

// What a thread has of an operand: numbers h of n and k are at row n * 8 + r and column k * 8 + 2 c + h. The hardware would have columns c + 4 h, but the order of
// a sum is free; in this one a thread's part is the same whether the matrix stands left or, transposed, right, and the same as its part of a product: what one
// product makes the next one takes from registers. So of each product the transpose is made, too, where that is what comes next: (a b^T)^T = b a^T.
struct Operand { u32 of[2][2][2]; };
__device__ __forceinline__ Operand operand(const Sum& d)
{
    Operand x;
#pragma unroll
    for (int i = 0; i < 8; i++) x.of[i >> 2][i >> 1 & 1][i & 1] = tf32(d.of[i >> 2][i & 3]);
    return x;
}
__device__ __forceinline__ float number_of(const Operand& x, int n, int e) { return __uint_as_float(x.of[n][e >> 1][e & 1]); }   // as of a sum
__device__ __forceinline__ Operand rows(const Lane& at, const Matrix& m)
{
    Operand x;
#pragma unroll
    for (int i = 0; i < 4; i++)
    {
        const float2 p = two(&m.of[(i & 1) * 8 + at.r][(i >> 1) * 8 + at.c * 2]);
        x.of[i >> 1][i & 1][0] = tf32(p.x);
        x.of[i >> 1][i & 1][1] = tf32(p.y);
    }
    return x;
}
__device__ __forceinline__ Operand columns(const Lane& at, const Matrix& m)
{
    Operand x;
#pragma unroll
    for (int i = 0; i < 8; i++) x.of[i >> 2][i >> 1 & 1][i & 1] = tf32(m.of[(i >> 2) * 8 + at.c * 2 + (i & 1)][(i >> 1 & 1) * 8 + at.r]);
    return x;
}
// bfloat16 is tf32 as it is.
__device__ __forceinline__ Operand unpacked(const u32 (&pairs)[4])
{
    Operand x;
#pragma unroll
    for (int i = 0; i < 4; i++)
    {
        x.of[i >> 1][i & 1][0] = pairs[i] << 16;
        x.of[i >> 1][i & 1][1] = pairs[i] & 0xFFFF0000u;
    }
    return x;
}
__device__ __forceinline__ Operand rows(const Loaded& m)
{
    const int lane = threadIdx.x & 31;
    u32 pairs[4];
    ldm4(pairs, &m.of[(lane >> 3 & 1) * 8 + (lane & 7)][(lane >> 4) * 8]);
    return unpacked(pairs);
}
__device__ __forceinline__ Operand columns(const Loaded& m)
{
    const int lane = threadIdx.x & 31;
    u32 pairs[4];
    ldm4t(pairs, &m.of[(lane >> 4) * 8 + (lane & 7)][(lane >> 3 & 1) * 8]);
    return unpacked(pairs);
}
// Columns times f(column).
template <typename F> __device__ __forceinline__ Operand scaled(const Lane& at, const Operand& x, F f)
{
    Operand y;
#pragma unroll
    for (int i = 0; i < 8; i++) y.of[i >> 2][i >> 1 & 1][i & 1] = tf32(__uint_as_float(x.of[i >> 2][i >> 1 & 1][i & 1]) * f((i >> 2) * 8 + at.c * 2 + (i & 1)));
    return y;
}

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
__device__ __forceinline__ void put(const Lane& at, Matrix& m, const Sum& d)
{
#pragma unroll
    for (int n = 0; n < 2; n++)
#pragma unroll
        for (int e = 0; e < 4; e += 2) *reinterpret_cast<float2*>(&m.of[at.row(e)][at.column(n, e)]) = make_float2(d.of[n][e], d.of[n][e + 1]);
}
// A whole tile in memory, for the backward pass.
__device__ __forceinline__ void keep(const Lane& at, float* to, const Sum& d)
{
#pragma unroll
    for (int n = 0; n < 2; n++)
#pragma unroll
        for (int e = 0; e < 4; e += 2) *reinterpret_cast<float2*>(to + at.row(e) * D + at.column(n, e)) = make_float2(d.of[n][e], d.of[n][e + 1]);
}
// The sums of f(n, e) over the rows that a thread has a part of, to all threads that do: row r and row r + 8.
template <typename F> __device__ __forceinline__ float2 row_sums(F f)
{
    float2 sum = make_float2(0.f, 0.f);
#pragma unroll
    for (int n = 0; n < 2; n++)
#pragma unroll
        for (int e = 0; e < 2; e++)
        {
            sum.x += f(n, e);
            sum.y += f(n, e + 2);
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
struct TokenRow { const void* tensor; i64 row; int dim; };   // a token's row of a tensor
// Rows of 16 numbers at multiples of 16 bytes come in one piece, others number by number; what is past a row is 0. One branch for all, or they would wait for one another.
template <int N> __device__ __forceinline__ void fetch(uint4 (&words)[N], const TokenRow (&from)[N], const RowHalf& half, bool is_whole)
{
    const bf16* p[N];
#pragma unroll
    for (int i = 0; i < N; i++) p[i] = (const bf16*)from[i].tensor + from[i].row + half.first;
    if (is_whole)
    {
#pragma unroll
        for (int i = 0; i < N; i++) words[i] = *reinterpret_cast<const uint4*>(p[i]);
        return;
    }
#pragma unroll
    for (int i = 0; i < N; i++)
    {
        const int there = from[i].dim - half.first;
        u32 w[4];
#pragma unroll
        for (int j = 0; j < 4; j++) w[j] = (2 * j < there ? (u32)p[i][2 * j].bits : 0u) | (2 * j + 1 < there ? (u32)p[i][2 * j + 1].bits << 16 : 0u);
        words[i] = make_uint4(w[0], w[1], w[2], w[3]);
    }
}
__device__ __forceinline__ uint4 or_zero(const uint4& words, bool is_there) { return is_there ? words : make_uint4(0u, 0u, 0u, 0u); }
__device__ __forceinline__ void put(Loaded& m, const RowHalf& half, const uint4& words) { *reinterpret_cast<uint4*>(&m.of[half.token][half.first]) = words; }
// The squared length of the row, to both threads that have a half of it.
__device__ __forceinline__ float square(const uint4& words)
{
    const u32 w[4] = { words.x, words.y, words.z, words.w };
    float sum = 0.f;
#pragma unroll
    for (int i = 0; i < 4; i++)
    {
        const float lo = __uint_as_float(w[i] << 16), hi = __uint_as_float(w[i] & 0xFFFF0000u);
        sum += lo * lo + hi * hi;
    }
    return sum + __shfl_xor_sync(0xFFFFFFFFu, sum, 1);
}

// Decays within a tile. `between` has Gamma(t, s) for s <= t, and `since` Gamma(t).
template <bool DECAYS> struct Decays
{
    Matrix between; float since[D];
    __device__ __forceinline__ void make(const TokenCoefficients* tokens)
    {
        const int s = (int)(threadIdx.x & 31) - 1;   // the first thread begins before the tile
        float run = 1.f;
#pragma unroll
        for (int t = 0; t < D; t++)
        {
            if (t > s) run *= tokens[t].decay;
            if (s < 0) since[t] = run;
            else if (s < D) between.of[t][s] = run;
        }
        __syncwarp();
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

// The states between tiles, transposed: from one to the next what is in its place is added to g S + M S. The map's rows are on their way while the state before is made.
__device__ __forceinline__ void step(const Lane& at, Sum& state, float decay, const Matrix& map, Matrix& next)
{
    const Operand right = rows(at, map);
    Sum sum;
    each(at, sum, [&](int i, int j, float) { return next.of[i][j]; });
    const Operand left = operand(state);
#pragma unroll
    for (int n = 0; n < 2; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) state.of[n][e] = fmaf(decay, state.of[n][e], sum.of[n][e]);
    multiply(state, left, right);
    put(at, next, state);
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
    T* row = (T*)to.to + place + (i64)at.r * stride + at.c * 2;
    const bool is_whole = dim == D && (u64)to.to % 8 == 0;
#pragma unroll
    for (int e = 0; e < 4; e += 2, row += (i64)stride * 8)
    {
        if (at.row(e) >= count) return;
#pragma unroll
        for (int n = 0; n < 2; n++)
        {
            if (is_whole) write_pair(row + n * 8, to.accumulate, d.of[n][e], d.of[n][e + 1]);
            else
            {
                const Target here = { row + n * 8, to.accumulate };
                if (at.column(n, e) < dim) write<T>(here, 0, d.of[n][e]);
                if (at.column(n, e) + 1 < dim) write<T>(here, 1, d.of[n][e + 1]);
            }
        }
    }
}

// A head's state in memory [K, V], transposed.
__device__ __forceinline__ Sum load_state(const Lane& at, const float* from, const SmallSizes& n)
{
    Sum d;
    each(at, d, [&](int j, int i, float) { return i < n.key_dim && j < n.value_dim ? from[i * n.value_dim + j] : 0.f; });
    return d;
}

#define TILE_KERNELS(name, Args, blocks)                                                                                          \
    extern "C" __global__ void __launch_bounds__(32 * WARPS, blocks) name##_bfloat16(const Args g) { name<false>(g); }            \
    extern "C" __global__ void __launch_bounds__(32 * WARPS, blocks) name##_decays_bfloat16(const Args g) { name<true>(g); }
