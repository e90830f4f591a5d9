#include "units.cuh"

constexpr int THREADS = 256;

// y = output + weight[head] x; a unit of columns lies in one head, `per_head` of them in each.
struct ValueArgs { void* y; const void* output; const void* x; const float* weight; Columns columns; int per_head; };
template <typename T, int N> __device__ __forceinline__ void skip(const ValueArgs& g)
{
    const int unit = unit_of(g.columns);
    if (unit >= g.columns.units) return;
    const float factor = g.weight[unit / g.per_head];
    for (i64 row = first_row(g.columns); row < g.columns.rows; row += row_step(g.columns))
    {
        const i64 i = (row * g.columns.units + unit) * N;
        float x[N], y[N];
        load_unit(y, (const T*)g.output + i);
        load_unit(x, (const T*)g.x + i);
#pragma unroll
        for (int j = 0; j < N; j++) y[j] = fmaf(factor, x[j], y[j]);
        store_unit((T*)g.y + i, y);
    }
}
template <typename T> __device__ __forceinline__ void head_skip_pieces(const ValueArgs& g) { skip<T, Piece<T>::N>(g); }
template <typename T> __device__ __forceinline__ void head_skip_elements(const ValueArgs& g) { skip<T, 1>(g); }
BOTH_TYPES(head_skip_pieces, ValueArgs, THREADS)
BOTH_TYPES(head_skip_elements, ValueArgs, THREADS)

// dx = weight[head] dy, and per block the sums of dy x of each head: partial [blocks][heads], or null when nobody wants them.
struct GradientArgs { Target x_gradient; const void* gradient; const void* x; const float* weight; float* partial; Columns columns; int per_head, heads; };
template <typename T, int N> __device__ __forceinline__ void skip_gradient(const GradientArgs& g)
{
    __shared__ float room[THREADS];
    const int unit = unit_of(g.columns), tile = 1 << g.columns.shift;
    float sum = 0.f;
    if (unit < g.columns.units)
    {
        const float factor = g.weight[unit / g.per_head];
        for (i64 row = first_row(g.columns); row < g.columns.rows; row += row_step(g.columns))
        {
            const i64 i = (row * g.columns.units + unit) * N;
            float x[N], dy[N];
            load_unit(dy, (const T*)g.gradient + i);
            if (g.partial)
            {
                load_unit(x, (const T*)g.x + i);
#pragma unroll
                for (int j = 0; j < N; j++) sum = fmaf(dy[j], x[j], sum);
            }
            if (g.x_gradient.to)
            {
#pragma unroll
                for (int j = 0; j < N; j++) dy[j] *= factor;
                write_unit<T>(g.x_gradient, i, dy);
            }
        }
    }
    if (!g.partial) return;
    sum = sum_lanes(g.columns, sum, room);
    if ((int)threadIdx.x < tile) room[threadIdx.x] = sum;
    __syncthreads();
    // A head may have units in several blocks along y, and each block writes a sum, perhaps 0, for every head.
    const i64 block = (i64)blockIdx.y * gridDim.x + blockIdx.x, first = (i64)blockIdx.y << g.columns.shift;
    for (int head = threadIdx.x; head < g.heads; head += blockDim.x)
    {
        float total = 0.f;
        i64 from = (i64)head * g.per_head - first, to = from + g.per_head;
        for (int at = from > 0 ? (int)min(from, (i64)tile) : 0; at < min(to, (i64)tile); at++) total += room[at];
        g.partial[block * g.heads + head] = total;
    }
}
template <typename T> __device__ __forceinline__ void head_skip_gradient_pieces(const GradientArgs& g) { skip_gradient<T, Piece<T>::N>(g); }
template <typename T> __device__ __forceinline__ void head_skip_gradient_elements(const GradientArgs& g) { skip_gradient<T, 1>(g); }
BOTH_TYPES(head_skip_gradient_pieces, GradientArgs, THREADS)
BOTH_TYPES(head_skip_gradient_elements, GradientArgs, THREADS)
