#include "elements.cuh"

// Sums over the rows of a matrix [rows, columns] in a fixed order: each block of `span` rows into one row of partial sums, then those rows in order.

struct ColumnSumsArgs { const void* x; float* partials; Target sums; i64 rows, columns, span; int blocks; };

// Block (x, y): 128 pieces of columns from x on, rows [y span, (y + 1) span). Thread rows (4 of 128 threads) take every fourth row.
template <typename T, int N> __device__ __forceinline__ void sum_rows(const ColumnSumsArgs& g)
{
    __shared__ float room[3][128 * 8];
    int piece = threadIdx.x & 127, phase = threadIdx.x >> 7;
    i64 column = ((i64)blockIdx.x * 128 + piece) * N, first = (i64)blockIdx.y * g.span;
    i64 last = first + g.span < g.rows ? first + g.span : g.rows;
    float sum[N];
#pragma unroll
    for (int j = 0; j < N; j++) sum[j] = 0.f;
    if (column < g.columns)
    {
        const T* x = (const T*)g.x + column;
#pragma unroll 4
        for (i64 row = first + phase; row < last; row += 4)
        {
            float v[N];
            if constexpr (N == 1) v[0] = load(x, row * g.columns);
            else Piece<T>::load(v, x + row * g.columns);
#pragma unroll
            for (int j = 0; j < N; j++) sum[j] += v[j];
        }
    }

    if (phase > 0)
    {
#pragma unroll
        for (int j = 0; j < N; j++) room[phase - 1][piece * N + j] = sum[j];
    }
    __syncthreads();
    if (phase == 0 && column < g.columns)
    {
#pragma unroll
        for (int j = 0; j < N; j++)
            g.partials[blockIdx.y * g.columns + column + j] = ((sum[j] + room[0][piece * N + j]) + room[1][piece * N + j]) + room[2][piece * N + j];
    }
}

extern "C" __global__ void __launch_bounds__(512) column_sums_float32(const ColumnSumsArgs g) { sum_rows<float, 1>(g); }
extern "C" __global__ void __launch_bounds__(512) column_sums_bfloat16(const ColumnSumsArgs g) { sum_rows<bf16, 1>(g); }
extern "C" __global__ void __launch_bounds__(512) column_sums_pieces_float32(const ColumnSumsArgs g) { sum_rows<float, 4>(g); }
extern "C" __global__ void __launch_bounds__(512) column_sums_pieces_bfloat16(const ColumnSumsArgs g) { sum_rows<bf16, 8>(g); }

extern "C" __global__ void __launch_bounds__(256) column_sums_of_blocks(const ColumnSumsArgs g)
{
    i64 column = (i64)blockIdx.x * 256 + threadIdx.x;
    if (column >= g.columns) return;
    float sum = 0.f;
#pragma unroll 8
    for (int block = 0; block < g.blocks; block++) sum += g.partials[block * g.columns + column];
    write<float>(g.sums, column, sum);
}
