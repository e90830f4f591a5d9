#include "rows.cuh"

// The gradient of n = (x - m) r w with r = (share sum((x - m)^2) + epsilon)^(-1/2), where m is the mean of the row when it is centred (LayerNorm) and 0
// otherwise (RmsNorm: share = 1 / dim, L2Norm: share = 1). With c = x - m and g = w dy:
//     dx = r (g - [mean(g)] - c r^2 share sum(g c)),   dw = sum over rows of dy c r,   and, for the bias behind a centred norm, db = sum over rows of dy.

struct NormGradArgs
{
    Rows rows;
    const void* x;
    const void* dy;
    const void* direct;     // null, or what reaches x besides the norm, added to its gradient
    const float* weight;    // null: ones
    float* partial;         // null, or [blocks, dim], centred [blocks, 2 dim]: the gradients of weight and bias over each block's rows
    void* normalized;       // null, or where n is written again, not for few rows; it may be where dy lies, which a thread has read by then
    Target dx;
    float share, epsilon;
};

// Few short rows: a thread has a piece of each of four rows and loads all of them at once, also what its gradient is added to, so that the memory is waited for
// once and the shuffles of four rows go together. The rows
// behind the last one are that one again, without a gradient.
template <typename T, bool CENTRED> __device__ __forceinline__ void norm_backward_few(const NormGradArgs& g)
{
    typedef Cells<T, true> C;
    constexpr int R = 4, N = C::N;   // CudaRows counts on R
    DYNAMIC_SHARED(columns);
    const RowThread t(g.rows);
    const bool inside = t.at<C>(0) < g.rows.dim;
    const int from = inside ? t.at<C>(0) : 0;
    float w[N], weight_sums[1][N], bias_sums[1][N];
    load_feature<C>(w, g.weight, from);
    clear<C, 1>(weight_sums);
    clear<C, 1>(bias_sums);
    T* to = (T*)g.dx.to;
    const T* added = g.direct ? (const T*)g.direct : g.dx.accumulate ? to : nullptr;
    const bool adds_again = g.direct && g.dx.accumulate;
    const int count = (int)g.rows.count;
    for (int first = blockIdx.x * t.rows * R + t.row; first - t.row < count; first += gridDim.x * t.rows * R)
    {
        typename C::Raw raw_x[R], raw_dy[R], raw_added[R];
#pragma unroll
        for (int k = 0; k < R; k++)
        {
            const int row = first + k * t.rows;
            const bool mine = inside && row < count;
            const i64 at = (i64)min(row, count - 1) * g.rows.dim + from;
            raw_x[k] = C::read((const T*)g.x + at);
            raw_dy[k] = mine ? C::read((const T*)g.dy + at) : C::zero();
            raw_added[k] = mine && added ? C::read(added + at) : C::zero();
        }
        __syncwarp();   // the compiler would save registers and wait for each
        if (!inside)
#pragma unroll
            for (int k = 0; k < R; k++) raw_x[k] = C::zero();

        float mean[R] = {};
        if constexpr (CENTRED)
        {
#pragma unroll
            for (int k = 0; k < R; k++)
            {
                float x[N];
                C::open(raw_x[k], x);
#pragma unroll
                for (int j = 0; j < N; j++) mean[k] += x[j];
            }
            for (int d = t.lanes >> 1; d > 0; d >>= 1)
#pragma unroll
                for (int k = 0; k < R; k++) mean[k] += __shfl_xor_sync(0xFFFFFFFFu, mean[k], d);
#pragma unroll
            for (int k = 0; k < R; k++) mean[k] = inside ? mean[k] / g.rows.dim : 0.f;   // a quotient: the mean of equal values is that value
        }

        float squares[R] = {}, dot[R] = {}, total[R] = {};
#pragma unroll
        for (int k = 0; k < R; k++)
        {
            C::forget_opened(raw_x[k]);
            float x[N], dy[N];
            C::open(raw_x[k], x);
            C::open(raw_dy[k], dy);
#pragma unroll
            for (int j = 0; j < N; j++)
            {
                const float c = CENTRED ? x[j] - mean[k] : x[j], weighted = w[j] * dy[j];
                squares[k] = fmaf(c, c, squares[k]);
                dot[k] = fmaf(weighted, c, dot[k]);
                if constexpr (CENTRED) total[k] += weighted;
            }
        }
        for (int d = t.lanes >> 1; d > 0; d >>= 1)
#pragma unroll
            for (int k = 0; k < R; k++)
            {
                squares[k] += __shfl_xor_sync(0xFFFFFFFFu, squares[k], d);
                dot[k] += __shfl_xor_sync(0xFFFFFFFFu, dot[k], d);
                if constexpr (CENTRED) total[k] += __shfl_xor_sync(0xFFFFFFFFu, total[k], d);
            }

#pragma unroll
        for (int k = 0; k < R; k++)
        {
            C::forget_opened(raw_x[k]);
            C::forget_opened(raw_dy[k]);
            const float r = 1.f / sqrtf(squares[k] * g.share + g.epsilon), along = dot[k] * r * r * g.share, level = total[k] * g.share;
            float x[N], dy[N], dx[N];
            C::open(raw_x[k], x);
            C::open(raw_dy[k], dy);
            C::open(raw_added[k], dx);
#pragma unroll
            for (int j = 0; j < N; j++)
            {
                const float c = CENTRED ? x[j] - mean[k] : x[j];
                weight_sums[0][j] = fmaf(dy[j] * r, c, weight_sums[0][j]);
                if constexpr (CENTRED) bias_sums[0][j] += dy[j];
                dx[j] = fmaf(r, w[j] * dy[j] - level - c * along, dx[j]);
            }
            if (!inside || first + k * t.rows >= count) continue;
            const i64 at = (i64)(first + k * t.rows) * g.rows.dim + from;
            if (adds_again) write_gradient<C>(g.dx, at, dx);
            else if (to) C::write(to + at, C::close(dx));
        }
    }
    if (!g.partial) return;
    float* partial = g.partial + (i64)blockIdx.x * (CENTRED ? 2 : 1) * g.rows.dim;
    store_columns<C, 1>(weight_sums, t, g.rows.dim, partial, (float*)columns);
    if constexpr (CENTRED) store_columns<C, 1>(bias_sums, t, g.rows.dim, partial + g.rows.dim, (float*)columns);
}

// Two blocks to a multiprocessor, as CudaRows counts on.
#define FEW_ROWS_GRADIENT(name, CENTRED)                                                                                                              \
    extern "C" __global__ void __launch_bounds__(256, 2) name##_few_float32(const NormGradArgs g) { norm_backward_few<float, CENTRED>(g); }           \
    extern "C" __global__ void __launch_bounds__(256, 2) name##_few_bfloat16(const NormGradArgs g) { norm_backward_few<bf16, CENTRED>(g); }
