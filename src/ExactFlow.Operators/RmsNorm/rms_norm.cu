#include "norm_gradient.cuh"

// y = x r w with r = (share sum(x^2) + epsilon)^(-1/2): share = 1 / dim for RmsNorm, 1 (and no w) for L2Norm. With a residual, x is first replaced by
// x + residual, rounded to the format of the tensors, and written too.

struct RmsNormArgs
{
    Rows rows;
    const void* x;
    const void* residual;   // null: none
    const float* weight;    // null: ones
    void* sum;
    void* y;
    float share, epsilon;
};

template <typename T, int P, bool VECTOR> __device__ __forceinline__ void rms_norm_forward(const RmsNormArgs& g)
{
    typedef Cells<T, VECTOR> C;
    __shared__ float room[64];
    const RowThread t(g.rows);
    const i64 row = (i64)blockIdx.x * t.rows + t.row;
    const int dim = row < g.rows.count ? g.rows.dim : 0;
    const i64 start = row * g.rows.dim;
    typename C::Raw raw[P];
    load_row<C, P>(raw, (const T*)g.x + start, t, dim);
    if (g.residual)
    {
        typename C::Raw other[P];
        load_row<C, P>(other, (const T*)g.residual + start, t, dim);
#pragma unroll
        for (int p = 0; p < P; p++)
        {
            float x[C::N], add[C::N];
            C::open(raw[p], x);
            C::open(other[p], add);
#pragma unroll
            for (int j = 0; j < C::N; j++) x[j] += add[j];
            raw[p] = C::close(x);
            if (t.at<C>(p) < dim) C::write((T*)g.sum + start + t.at<C>(p), raw[p]);
        }
    }
    float squares = 0.f;
#pragma unroll
    for (int p = 0; p < P; p++)
    {
        float x[C::N];
        C::open(raw[p], x);
#pragma unroll
        for (int j = 0; j < C::N; j++) squares += x[j] * x[j];
    }
    const float r = 1.f / sqrtf(row_sum(squares, t.lanes, room) * g.share + g.epsilon);
#pragma unroll
    for (int p = 0; p < P; p++)
    {
        int i = t.at<C>(p);
        if (i < dim)
        {
            float x[C::N], w[C::N];
            C::open(raw[p], x);
            load_feature<C>(w, g.weight, i);
#pragma unroll
            for (int j = 0; j < C::N; j++) x[j] = x[j] * r * w[j];
            C::write((T*)g.y + start + i, C::close(x));
        }
    }
}
ROW_KERNELS(rms_norm_forward, RmsNormArgs)

// dx = r (g - x r^2 share sum(g x)) with g = w dy, and dw = sum over rows of dy x r. Each block goes through rows at a stride of the grid.
template <typename T, int P, bool VECTOR> __device__ __forceinline__ void rms_norm_backward(const NormGradArgs& g)
{
    typedef Cells<T, VECTOR> C;
    __shared__ float room[64];
    DYNAMIC_SHARED(columns);
    const RowThread t(g.rows);
    float sums[P][C::N];
    clear<C, P>(sums);
    RowsAhead<C, P, 3> ahead(columns, g.rows);
    auto fetch = [&](i64 row)
    {
        const int dim = row < g.rows.count ? g.rows.dim : 0;
        const i64 start = dim ? row * g.rows.dim : 0;
        ahead.fetch(0, (const T*)g.x + start, t, dim);
        ahead.fetch(1, (const T*)g.dy + start, t, dim);
        if (g.direct) ahead.fetch(2, (const T*)g.direct + start, t, dim);
        ahead.send();
    };
    const i64 stride = (i64)gridDim.x * t.rows;
    fetch((i64)blockIdx.x * t.rows + t.row);
    for (i64 first = (i64)blockIdx.x * t.rows; first < g.rows.count; first += stride)
    {
        const i64 row = first + t.row;
        const int dim = row < g.rows.count ? g.rows.dim : 0;
        const i64 start = row * g.rows.dim;
        ahead.advance();
        fetch(row + stride);
        ahead.arrive();
        typename C::Raw raw_x[P], raw_dy[P], raw_direct[P];
        ahead.take(raw_x, 0, (const T*)g.x + start, t, dim);
        ahead.take(raw_dy, 1, (const T*)g.dy + start, t, dim);
        if (g.direct) ahead.take(raw_direct, 2, (const T*)g.direct + start, t, dim);
        else
#pragma unroll
            for (int p = 0; p < P; p++) raw_direct[p] = C::zero();
        float squares = 0.f, dot = 0.f;
#pragma unroll
        for (int p = 0; p < P; p++)
        {
            if (t.at<C>(p) < dim)
            {
                float x[C::N], dy[C::N], w[C::N];
                C::open(raw_x[p], x);
                C::open(raw_dy[p], dy);
                load_feature<C>(w, g.weight, t.at<C>(p));
#pragma unroll
                for (int j = 0; j < C::N; j++)
                {
                    squares += x[j] * x[j];
                    dot += w[j] * dy[j] * x[j];
                }
            }
        }
        row_sums(squares, dot, t.lanes, room);
        const float r = 1.f / sqrtf(squares * g.share + g.epsilon);
        const float along = dot * r * r * g.share;
#pragma unroll
        for (int p = 0; p < P; p++)
        {
            int i = t.at<C>(p);
            if (i < dim)
            {
                float x[C::N], dy[C::N], w[C::N], dx[C::N];
                C::open(raw_x[p], x);
                C::open(raw_dy[p], dy);
                C::open(raw_direct[p], dx);
                load_feature<C>(w, g.weight, i);
#pragma unroll
                for (int j = 0; j < C::N; j++)
                {
                    sums[p][j] += dy[j] * r * x[j];
                    dx[j] += r * (dy[j] * w[j] - x[j] * along);
                    x[j] = x[j] * r * w[j];
                }
                write_gradient<C>(g.dx, start + i, dx);
                if (g.normalized) C::write((T*)g.normalized + start + i, C::close(x));
            }
        }
    }
    ahead.end();
    if (g.partial) store_columns<C, P>(sums, t, g.rows.dim, g.partial + (i64)blockIdx.x * g.rows.dim, (float*)columns);
}
ROW_KERNELS(rms_norm_backward, NormGradArgs)
FEW_ROWS_GRADIENT(rms_norm_backward, false)
