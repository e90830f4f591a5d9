#include "elements.cuh"

// The second step of sums over rows: adds up, in order, the sums that blocks of rows left.
// Columns [0, split) go to the first target, the others to the second; either may be null.
struct FoldArgs { const float* partial; i64 rows; int columns, split; Target first, second; };
constexpr int LANES = 16, AT_A_TIME = 16;   // threads that share a column, and rows that are on their way to each of them at the same time
extern "C" __global__ void __launch_bounds__(32 * LANES) fold_columns(const FoldArgs g)
{
    __shared__ float room[LANES][32];
    const int lane = threadIdx.x >> 5, within = threadIdx.x & 31, column = blockIdx.x * 32 + within;
    float sum = 0.f;
    const int rows = (int)g.rows;
    const float* from = g.partial + min(column, g.columns - 1);
    for (int start = lane; start < rows; start += AT_A_TIME * LANES)
    {
        float x[AT_A_TIME];
#pragma unroll
        for (int i = 0; i < AT_A_TIME; i++) x[i] = from[(i64)min(start + i * LANES, rows - 1) * g.columns];
        __syncwarp();   // the compiler would save registers and wait for each
#pragma unroll
        for (int i = 0; i < AT_A_TIME; i++) sum += start + i * LANES < rows ? x[i] : 0.f;
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
