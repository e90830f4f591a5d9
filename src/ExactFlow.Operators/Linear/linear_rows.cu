#include "elements.cuh"

// y[r, o] = sum_i x[r, i] w[o, i] + b[o] for few rows r, as in decoding: the weight is read once, at the speed of memory.
// A warp computes O outputs of all R rows; x comes from the caches, which is why several outputs share it when there are several rows.

struct LinearRowsArgs { const void* x; const void* weight; const float* bias; void* y; i64 inputs, outputs; int rows, whole, wide; };

template <typename T, int R, int O> __device__ __forceinline__ void linear_rows(const LinearRowsArgs& g)
{
    constexpr int N = Piece<T>::N;
    int lane = threadIdx.x & 31;
    i64 first = ((i64)blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5)) * O;
    if (first >= g.outputs) return;

    // Rows and outputs past the end repeat the last one, and are not stored.
    const T *w[O], *x[R];
#pragma unroll
    for (int o = 0; o < O; o++) w[o] = (const T*)g.weight + (first + o < g.outputs ? first + o : g.outputs - 1) * g.inputs;
#pragma unroll
    for (int r = 0; r < R; r++) x[r] = (const T*)g.x + (r < g.rows ? r : g.rows - 1) * g.inputs;
    float sum[R][O];
#pragma unroll
    for (int r = 0; r < R; r++)
#pragma unroll
        for (int o = 0; o < O; o++) sum[r][o] = 0.f;

    if (g.whole)
    {
#pragma unroll (O == 1 ? 4 : 2)
        for (i64 i = lane * N; i < g.inputs; i += 32 * N)
        {
            float a[O][N];
#pragma unroll
            for (int o = 0; o < O; o++) Piece<T>::load(a[o], w[o] + i);
#pragma unroll
            for (int r = 0; r < R; r++)
            {
                float b[N];
                Piece<T>::load(b, x[r] + i);
#pragma unroll
                for (int o = 0; o < O; o++)
#pragma unroll
                    for (int j = 0; j < N; j++) sum[r][o] += a[o][j] * b[j];
            }
        }
    }
    else
    {
        for (i64 i = lane; i < g.inputs; i += 32)
#pragma unroll
            for (int r = 0; r < R; r++)
            {
                float b = load(x[r], i);
#pragma unroll
                for (int o = 0; o < O; o++) sum[r][o] += load(w[o], i) * b;
            }
    }

#pragma unroll
    for (int r = 0; r < R; r++)
#pragma unroll
        for (int o = 0; o < O; o++)
        {
            float s = warp_sum(sum[r][o]);
            if (lane != 0 || r >= g.rows || first + o >= g.outputs) continue;
            if (g.bias) s += g.bias[first + o];
            i64 at = r * g.outputs + first + o;
            if (g.wide) ((float*)g.y)[at] = s;
            else store((T*)g.y, at, s);
        }
}

#define ROWS(R, O)                                                                                                                               \
    extern "C" __global__ void __launch_bounds__(64) linear_rows_##R##x##O##_float32(const LinearRowsArgs g) { linear_rows<float, R, O>(g); }    \
    extern "C" __global__ void __launch_bounds__(64) linear_rows_##R##x##O##_bfloat16(const LinearRowsArgs g) { linear_rows<bf16, R, O>(g); }

ROWS(1, 1)
ROWS(1, 4)
ROWS(2, 1)
ROWS(2, 4)
ROWS(4, 1)
ROWS(4, 4)
ROWS(8, 1)
ROWS(8, 4)
