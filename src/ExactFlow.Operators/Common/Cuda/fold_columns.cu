#include "elements.cuh"

// The second step of sums over rows: adds up, in order, the sums that blocks of rows left.
// Columns [0, split) go to the first target, the others to the second; either may be null.
struct FoldArgs { const float* partial; i64 rows; int columns, split; Target first, second; };
constexpr int LANES = 16;
extern "C" __global__ void __launch_bounds__(32 * LANES) fold_columns(const FoldArgs g)
{
    __shared__ float room[LANES][32];
    const int lane = threadIdx.x >> 5, within = threadIdx.x & 31, column = blockIdx.x * 32 + within;
    float sum = 0.f;
    if (column < g.columns)
    {
#pragma unroll 8
        for (i64 row = lane; row < g.rows; row += LANES) sum += g.partial[row * g.columns + column];
    }
    room[lane][within] = sum;
    __syncthreads();
    if (lane > 0 || column >= g.columns) return;
    for (int i = 1; i < LANES; i++) sum += room[i][within];
    if (column < g.split)
    {
        if (g.first.to) write<float>(g.first, column, sum);
    }
    else if (g.second.to) write<float>(g.second, column - g.split, sum);
}
