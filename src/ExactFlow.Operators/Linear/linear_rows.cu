#include "elements.cuh"

// y[r, o] = sum_i x[r, i] w[o, i] + b[o] for few rows r, as in decoding: the weight is read once, at the speed of memory.
// A warp computes O outputs of all R rows; x comes from the caches, which is why several outputs share it when there are several rows.

struct LinearRowsArgs { const void* x; const void* weight; const float* bias; void* y; i64 inputs, outputs; int rows, whole, wide; };

__device__ __forceinline__ uint4 piece(const void* p) { return *reinterpret_cast<const uint4*>(p); }
template <typename T> __device__ __forceinline__ void floats(float (&x)[Piece<T>::N], uint4 v)
{
    u32 w[4] = { v.x, v.y, v.z, v.w };
#pragma unroll
    for (int i = 0; i < 4; i++)
        if constexpr (Piece<T>::N == 4) x[i] = __uint_as_float(w[i]);
        else { x[2 * i] = __uint_as_float(w[i] << 16); x[2 * i + 1] = __uint_as_float(w[i] & 0xFFFF0000u); }
}

template <typename T, int R, int O> __device__ __forceinline__ void linear_rows(const LinearRowsArgs& g)
{
    constexpr int N = Piece<T>::N, U = O == 1 ? 4 : 1;
    constexpr bool IS_EARLY = R * U <= 8;
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
        // A turn takes U pieces of each row. The barrier makes the compiler ask for all of them before it uses the first: left alone it waits for each in turn.
        // Past the end the weight counts as zeros, and x is read at a place that exists.
        for (i64 turn = 0; turn < g.inputs; turn += 32 * N * U)
        {
            i64 at[U];
            uint4 a[U][O], early[U][IS_EARLY ? R : 1];
#pragma unroll
            for (int u = 0; u < U; u++)
            {
                i64 i = turn + (u * 32 + lane) * N;
                bool is_inside = i < g.inputs;
                at[u] = is_inside ? i : 0;
#pragma unroll
                for (int o = 0; o < O; o++)
                {
                    a[u][o] = piece(w[o] + at[u]);
                    if (!is_inside) a[u][o] = make_uint4(0, 0, 0, 0);
                }
                if constexpr (IS_EARLY)
#pragma unroll
                    for (int r = 0; r < R; r++) early[u][r] = piece(x[r] + at[u]);
            }
            __syncwarp();
#pragma unroll
            for (int u = 0; u < U; u++)
#pragma unroll
                for (int r = 0; r < R; r++)
                {
                    float b[N];
                    floats<T>(b, IS_EARLY ? early[u][IS_EARLY ? r : 0] : piece(x[r] + at[u]));
#pragma unroll
                    for (int o = 0; o < O; o++)
                    {
                        float c[N];
                        floats<T>(c, a[u][o]);
#pragma unroll
                        for (int j = 0; j < N; j++) sum[r][o] += c[j] * b[j];
                    }
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

// `blocks` per multiprocessor leave a thread the registers that its early loads need, and no fewer threads than keep memory busy.
#define ROWS(R, O, blocks)                                                                                                                               \
    extern "C" __global__ void __launch_bounds__(64, blocks) linear_rows_##R##x##O##_float32(const LinearRowsArgs g) { linear_rows<float, R, O>(g); }    \
    extern "C" __global__ void __launch_bounds__(64, blocks) linear_rows_##R##x##O##_bfloat16(const LinearRowsArgs g) { linear_rows<bf16, R, O>(g); }

ROWS(1, 1, 16)
ROWS(1, 4, 16)
ROWS(2, 1, 10)
ROWS(2, 4, 12)
ROWS(4, 1, 12)
ROWS(4, 4, 10)
ROWS(8, 1, 8)
ROWS(8, 4, 8)
