#include "rows.cuh"
#include "activations.cuh"

// With a = SiLU(gate): y = x r w a with r from x (the gate after the norm), or y = x a r w with r from x a (the gate before it).

struct GatedRmsNormArgs
{
    Rows rows;
    const void* x;
    const void* gate;
    const float* weight;
    void* y;
    float epsilon;
    int gate_first;
};

template <typename T, int P, bool VECTOR> __device__ __forceinline__ void gated_rms_norm_forward(const GatedRmsNormArgs& g)
{
    typedef Cells<T, VECTOR> C;
    __shared__ float room[64];
    const RowThread t(g.rows);
    const i64 row = (i64)blockIdx.x * t.rows + t.row;
    const int dim = row < g.rows.count ? g.rows.dim : 0;
    const i64 start = row * g.rows.dim;
    typename C::Raw raw_x[P], raw_gate[P];
    load_row<C, P>(raw_x, (const T*)g.x + start, t, dim);
    load_row<C, P>(raw_gate, (const T*)g.gate + start, t, dim);
    float gated[P][C::N], squares = 0.f;
#pragma unroll
    for (int p = 0; p < P; p++)
    {
        float x[C::N], gate[C::N];
        C::open(raw_x[p], x);
        C::open(raw_gate[p], gate);
#pragma unroll
        for (int j = 0; j < C::N; j++)
        {
            gated[p][j] = x[j] * (gate[j] * sigmoid_of<T>(gate[j]));
            float normed = g.gate_first ? gated[p][j] : x[j];
            squares += normed * normed;
        }
    }
    const float r = 1.f / sqrtf(row_sum(squares, t.lanes, room) / g.rows.dim + g.epsilon);
#pragma unroll
    for (int p = 0; p < P; p++)
    {
        int i = t.at<C>(p);
        if (i < dim)
        {
            float w[C::N], y[C::N];
            load_feature<C>(w, g.weight, i);
#pragma unroll
            for (int j = 0; j < C::N; j++) y[j] = gated[p][j] * r * w[j];
            C::write((T*)g.y + start + i, C::close(y));
        }
    }
}
ROW_KERNELS(gated_rms_norm_forward, GatedRmsNormArgs)

struct GatedRmsNormGradArgs
{
    Rows rows;
    const void* x;
    const void* gate;
    const void* dy;
    const float* weight;
    float* partial;     // null, or [blocks, dim]: the weight's gradient over each block's rows
    Target dx, dgate;
    float epsilon;
    int gate_first;
};

// With n = x a and g = w dy, where a' is the slope of SiLU:
//   gate after:   dx = r (g a - x r^2 mean(g n)),  dgate = g x r a'
//   gate before:  dn = r (g - n r^2 mean(g n)),  dx = dn a,  dgate = dn x a'
// and dw = sum over rows of dy n r either way.
template <typename T, int P, bool VECTOR> __device__ __forceinline__ void gated_rms_norm_backward(const GatedRmsNormGradArgs& g)
{
    typedef Cells<T, VECTOR> C;
    __shared__ float room[64];
    DYNAMIC_SHARED(columns);
    const RowThread t(g.rows);
    const float share = 1.f / g.rows.dim;
    float sums[P][C::N];
    clear<C, P>(sums);
    RowsAhead<C, P, 3> ahead(columns, g.rows);
    auto fetch = [&](i64 row)
    {
        const int dim = row < g.rows.count ? g.rows.dim : 0;
        const i64 start = dim ? row * g.rows.dim : 0;
        ahead.fetch(0, (const T*)g.x + start, t, dim);
        ahead.fetch(1, (const T*)g.gate + start, t, dim);
        ahead.fetch(2, (const T*)g.dy + start, t, dim);
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
        typename C::Raw raw_x[P], raw_gate[P], raw_dy[P];
        ahead.take(raw_x, 0, (const T*)g.x + start, t, dim);
        ahead.take(raw_gate, 1, (const T*)g.gate + start, t, dim);
        ahead.take(raw_dy, 2, (const T*)g.dy + start, t, dim);
        float squares = 0.f, dot = 0.f;
#pragma unroll
        for (int p = 0; p < P; p++)
        {
            if (t.at<C>(p) < dim)
            {
                float x[C::N], gate[C::N], dy[C::N], w[C::N];
                C::open(raw_x[p], x);
                C::open(raw_gate[p], gate);
                C::open(raw_dy[p], dy);
                load_feature<C>(w, g.weight, t.at<C>(p));
#pragma unroll
                for (int j = 0; j < C::N; j++)
                {
                    float gated = x[j] * (gate[j] * sigmoid_of<T>(gate[j]));
                    float normed = g.gate_first ? gated : x[j];
                    squares += normed * normed;
                    dot += w[j] * dy[j] * gated;
                }
            }
        }
        row_sums(squares, dot, t.lanes, room);
        const float r = 1.f / sqrtf(squares * share + g.epsilon);
        const float along = dot * r * r * share;
#pragma unroll
        for (int p = 0; p < P; p++)
        {
            int i = t.at<C>(p);
            if (i < dim)
            {
                float x[C::N], gate[C::N], dy[C::N], w[C::N], dx[C::N], dgate[C::N];
                C::open(raw_x[p], x);
                C::open(raw_gate[p], gate);
                C::open(raw_dy[p], dy);
                load_feature<C>(w, g.weight, i);
#pragma unroll
                for (int j = 0; j < C::N; j++)
                {
                    float s = sigmoid_of<T>(gate[j]), a = gate[j] * s, gated = x[j] * a, weighted = dy[j] * w[j];
                    sums[p][j] += dy[j] * r * gated;
                    float normed = r * (weighted - gated * along);
                    dx[j] = g.gate_first ? normed * a : r * (weighted * a - x[j] * along);
                    dgate[j] = (g.gate_first ? normed : weighted * r) * x[j] * silu_slope_of(gate[j], s);
                }
                write_gradient<C>(g.dx, start + i, dx);
                write_gradient<C>(g.dgate, start + i, dgate);
            }
        }
    }
    ahead.end();
    if (g.partial) store_columns<C, P>(sums, t, g.rows.dim, g.partial + (i64)blockIdx.x * g.rows.dim, (float*)columns);
}
ROW_KERNELS(gated_rms_norm_backward, GatedRmsNormGradArgs)
