#include "elements.cuh"
#include "delta_rule_rules.cuh"

// The delta rule for all sizes and both number formats, in float32 on the plain cores: chunks of 32 tokens, slices of 32 value columns.
// Normalised form as in delta_rule_common.cuh (unit keys kn = k / |k|, en = e |k|^2, wn = w |k|), with S0 the state before a chunk and c the running sum of log decays:
//     A = strict_lower( en_r (kn_r . kn_i) exp(c_r - c_i) )            T = (I + A)^-1
//     U = T ( wn V - en exp(c) Kn S0 )
//     O = scale ( exp(c) Q S0 + P U )        P = lower( (q_r . kn_i) exp(c_r - c_i) )
//     S = exp(c_C) S0 + Kn^T ( exp(c_C - c) U )
// Matrices lie in shared memory; keys and queries are stacked, rows 0 to 31 keys and 32 to 63 queries, so that products they share are one.

constexpr int C = 32;            // tokens per chunk
constexpr int VS = 32;           // value columns per slice
constexpr int LC = C + 4;        // floats between rows of matrices with 32 columns whose rows are read in pieces of four

// Columns rounded up to pieces of four floats, and floats between rows: an odd number of pieces, so that neighbouring rows start in different banks.
__device__ __forceinline__ int padded(int columns) { return (columns + 3) & ~3; }
__device__ __forceinline__ int row_length(int columns) { return (((columns + 3) / 4) | 1) * 4; }

// Adds a tile of A B, 4 rows by 4 columns `step` apart, to x. A lies as [row][k], transposed as [k][row]; B as [k][column], transposed as [column][k].
// `a` and `b` point at the tile's first row and column; depth is a multiple of 4.
template <bool TA, bool TB>
__device__ __forceinline__ void add_product(float (&x)[4][4], int depth, const float* a, int lda, const float* b, int ldb, int step)
{
#pragma unroll 2
    for (int k = 0; k < depth; k += 4)
    {
        float l[4][4], r[4][4];   // l: [row][k], transposed [k][row]; r: [k][column]
#pragma unroll
        for (int i = 0; i < 4; i++)
        {
            const float4 p = *reinterpret_cast<const float4*>(TA ? a + (k + i) * lda : a + i * lda + k);
            l[i][0] = p.x; l[i][1] = p.y; l[i][2] = p.z; l[i][3] = p.w;
        }
#pragma unroll
        for (int j = 0; j < 4; j++)
        {
            if (TB)
            {
                const float4 p = *reinterpret_cast<const float4*>(b + j * step * ldb + k);
                r[0][j] = p.x; r[1][j] = p.y; r[2][j] = p.z; r[3][j] = p.w;
            }
            else
#pragma unroll
                for (int i = 0; i < 4; i++) r[i][j] = b[(k + i) * ldb + j * step];
        }
#pragma unroll
        for (int kk = 0; kk < 4; kk++)
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) x[i][j] += (TA ? l[kk][i] : l[i][kk]) * r[kk][j];
    }
}

// Hands every element of A B to emit(row, column, value), spread over the block's threads; rows and columns are multiples of 4.
// A thread's columns are a quarter of them apart: lanes then touch neighbouring words, whichever way B lies.
template <bool TA, bool TB, typename Emit>
__device__ __forceinline__ void multiply(int rows, int columns, int depth, const float* a, int lda, const float* b, int ldb, Emit emit)
{
    const int step = columns / 4;
    for (int tile = threadIdx.x; tile < rows / 4 * step; tile += blockDim.x)
    {
        const int row = tile / step * 4, column = tile % step;
        float x[4][4] = {};
        add_product<TA, TB>(x, depth, TA ? a + row : a + row * lda, lda, TB ? b + column * ldb : b + column, ldb, step);
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int j = 0; j < 4; j++) emit(row + i, column + j * step, x[i][j]);
    }
}

// A matrix from global memory as floats: `valid` rows of `columns` elements, `stride` apart; zeros up to `rows` and `width`.
template <typename T>
__device__ __forceinline__ void load_rows(float* to, int ld, const T* from, i64 stride, int rows, int valid, int columns, int width)
{
    constexpr int N = Piece<T>::N;
    const bool pieces = columns % N == 0 && stride % N == 0 && (u64)from % 16 == 0;
    const int per_row = pieces ? width / N : width;
    int lanes = 1;
    while (lanes < per_row && lanes < 32) lanes *= 2;
    for (int r = threadIdx.x / lanes; r < rows; r += blockDim.x / lanes)
        for (int c = threadIdx.x % lanes; c < per_row; c += lanes)
        {
            if (pieces)
            {
                float x[N] = {};
                if (r < valid && c * N < columns) Piece<T>::load(x, from + r * stride + c * N);
#pragma unroll
                for (int i = 0; i < N; i += 4) *reinterpret_cast<float4*>(to + r * ld + c * N + i) = make_float4(x[i], x[i + 1], x[i + 2], x[i + 3]);
            }
            else to[r * ld + c] = r < valid && c < columns ? load(from, r * stride + c) : 0.f;
        }
}

// The slice of a matrix in shared memory to global memory.
template <typename T>
__device__ __forceinline__ void store_rows(T* to, i64 stride, const float* from, int ld, int rows, int columns)
{
    for (int i = threadIdx.x; i < rows * VS; i += blockDim.x)
        if (i % VS < columns) store(to, i / VS * stride + i % VS, from[i / VS * ld + i % VS]);
}

// A chunk's T or P, from consecutive to padded rows.
__device__ __forceinline__ void load_square(float* to, const float* from)
{
    for (int i = threadIdx.x; i < C * C / 4; i += blockDim.x)
        *reinterpret_cast<float4*>(to + i / (C / 4) * LC + i % (C / 4) * 4) = reinterpret_cast<const float4*>(from)[i];
}

// Sums over aligned groups of 8 or 16 lanes.
template <int LANES> __device__ __forceinline__ float lane_sum(float x)
{
#pragma unroll
    for (int d = LANES / 2; d > 0; d >>= 1) x += __shfl_xor_sync(0xFFFFFFFFu, x, d);
    return x;
}

// Per token: what the scans scale by, and what gradients and differences of logs need. The log is in two parts, exact to twice the digits of a float.
struct __align__(16) ScanScalars { float wn, erase, gamma, delta; };   // wn; en exp(c) / |k|; exp(c); exp(c_C - c) / |k|
struct __align__(16) TokenScalars { float en, inverse, high, low; };   // en; 1 / |k|; c = high + low

__device__ __forceinline__ float decay(const TokenScalars& r, const TokenScalars& i) { return expf((r.high - i.high) + (r.low - i.low)); }

// A chunk of a head: where its rows are.
struct Chunk
{
    int count; i64 token, scalar, key, tile;   // tokens; first token; index of its scalars, of its keys; number of the chunk and head
};
__device__ __forceinline__ Chunk chunk_at(const int2* chunks, int chunk, int head, int heads, int key_heads)
{
    Chunk x;
    x.count = chunks[chunk].y;
    x.token = chunks[chunk].x;
    x.scalar = x.token * heads + head;
    x.key = x.token * key_heads + head / (heads / key_heads);
    x.tile = (i64)chunk * heads + head;
    return x;
}

struct Sizes { int heads, key_heads, key_dim, value_dim; };
