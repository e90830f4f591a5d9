#include "norm_gradient.cuh"

// y = n w + b with n = (x - mean) r and r = (mean((x - mean)^2) + epsilon)^(-1/2). The variance takes a sum of its own: mean(x^2) - mean^2 would cancel
// when the mean is large beside the spread; the row lies in registers.

struct LayerNormArgs
{
    Rows rows;
    const void* x;
    const float* weight;
    const float* bias;
    void* y;
    float epsilon;
};

// Takes the mean from the thread's pieces of a row, and gives 1 / standard deviation.
template <typename C, int P> __device__ __forceinline__ float normalise(float (&x)[P][C::N], const RowThread& t, const Rows& rows, int dim, float epsilon, float* room)
{
    float sum = 0.f;
#pragma unroll
    for (int p = 0; p < P; p++)
#pragma unroll
        for (int j = 0; j < C::N; j++) sum += x[p][j];
    const float mean = row_sum(sum, t.lanes, room) / rows.dim;   // a quotient: the mean of equal values is that value
    float squares = 0.f;
#pragma unroll
    for (int p = 0; p < P; p++)
    {
        if (t.at<C>(p) < dim)
        {
#pragma unroll
            for (int j = 0; j < C::N; j++)
            {
                x[p][j] -= mean;
                squares += x[p][j] * x[p][j];
            }
        }
    }
    return 1.f / sqrtf(row_sum(squares, t.lanes, room) / rows.dim + epsilon);
}

template <typename T, int P, bool VECTOR> __device__ __forceinline__ void layer_norm_forward(const LayerNormArgs& g)
{
    typedef Cells<T, VECTOR> C;
    __shared__ float room[64];
    const RowThread t(g.rows);
    const i64 row = (i64)blockIdx.x * t.rows + t.row;
    const int dim = row < g.rows.count ? g.rows.dim : 0;
    const i64 start = row * g.rows.dim;
    typename C::Raw raw[P];
    load_row<C, P>(raw, (const T*)g.x + start, t, dim);
    float x[P][C::N];
#pragma unroll
    for (int p = 0; p < P; p++) C::open(raw[p], x[p]);
    const float r = normalise<C, P>(x, t, g.rows, dim, g.epsilon, room);
#pragma unroll
    for (int p = 0; p < P; p++)
    {
        int i = t.at<C>(p);
        if (i < dim)
        {
            float w[C::N], b[C::N];
            load_feature<C>(w, g.weight, i);
            load_feature<C>(b, g.bias, i);
#pragma unroll
            for (int j = 0; j < C::N; j++) x[p][j] = x[p][j] * r * w[j] + b[j];
            C::write((T*)g.y + start + i, C::close(x[p]));
        }
    }
}
ROW_KERNELS(layer_norm_forward, LayerNormArgs)

// With g = w dy: dx = r (g - mean(g) - n mean(g n)), dw = sum over rows of dy n, db = sum over rows of dy.
template <typename T, int P, bool VECTOR> __device__ __forceinline__ void layer_norm_backward(const NormGradArgs& g)
{
    typedef Cells<T, VECTOR> C;
    __shared__ float room[64];
    DYNAMIC_SHARED(columns);
    const RowThread t(g.rows);
    float weight_sums[P][C::N], bias_sums[P][C::N];
    clear<C, P>(weight_sums);
    clear<C, P>(bias_sums);
    for (i64 first = (i64)blockIdx.x * t.rows; first < g.rows.count; first += (i64)gridDim.x * t.rows)
    {
        const i64 row = first + t.row;
        const int dim = row < g.rows.count ? g.rows.dim : 0;
        const i64 start = row * g.rows.dim;
        typename C::Raw raw_x[P], raw_dy[P];
        load_row<C, P>(raw_x, (const T*)g.x + start, t, dim);
        load_row<C, P>(raw_dy, (const T*)g.dy + start, t, dim);
        float x[P][C::N];
#pragma unroll
        for (int p = 0; p < P; p++) C::open(raw_x[p], x[p]);
        const float r = normalise<C, P>(x, t, g.rows, dim, g.epsilon, room);
        float mean = 0.f, product = 0.f;
#pragma unroll
        for (int p = 0; p < P; p++)
        {
            if (t.at<C>(p) < dim)
            {
                float dy[C::N], w[C::N];
                C::open(raw_dy[p], dy);
                load_feature<C>(w, g.weight, t.at<C>(p));
#pragma unroll
                for (int j = 0; j < C::N; j++)
                {
                    x[p][j] *= r;
                    mean += w[j] * dy[j];
                    product += w[j] * dy[j] * x[p][j];
                }
            }
        }
        row_sums(mean, product, t.lanes, room);
        mean *= g.share;
        product *= g.share;
#pragma unroll
        for (int p = 0; p < P; p++)
        {
            int i = t.at<C>(p);
            if (i < dim)
            {
                float dy[C::N], w[C::N], dx[C::N];
                C::open(raw_dy[p], dy);
                load_feature<C>(w, g.weight, i);
#pragma unroll
                for (int j = 0; j < C::N; j++)
                {
                    weight_sums[p][j] += dy[j] * x[p][j];
                    bias_sums[p][j] += dy[j];
                    dx[j] = r * (w[j] * dy[j] - mean - x[p][j] * product);
                }
                write_gradient<C>(g.dx, start + i, dx);
            }
        }
    }
    if (!g.partial) return;
    float* partial = g.partial + (i64)blockIdx.x * 2 * g.rows.dim;
    store_columns<C, P>(weight_sums, t, g.rows.dim, partial, (float*)columns);
    store_columns<C, P>(bias_sums, t, g.rows.dim, partial + g.rows.dim, (float*)columns);
}
ROW_KERNELS(layer_norm_backward, NormGradArgs)
FEW_ROWS_GRADIENT(layer_norm_backward, true)
