#include "activations.cuh"
#include "units.cuh"

constexpr int THREADS = 256;

// y = -exp(A_log) softplus(a + dt_bias), heads as columns; y is float32 whatever a is.
struct ValueArgs { float* y; const void* a; const float* a_log; const float* dt_bias; Columns columns; };
template <typename T> __device__ __forceinline__ void log_decay(const ValueArgs& g)
{
    const int head = unit_of(g.columns), heads = g.columns.units;
    if (head >= heads) return;
    const float rate = -expf(g.a_log[head]), bias = g.dt_bias[head];
    for (i64 row = first_row(g.columns); row < g.columns.rows; row += row_step(g.columns))
        g.y[row * heads + head] = rate * softplus_of(load((const T*)g.a, row * heads + head) + bias);
}
BOTH_TYPES(log_decay, ValueArgs, THREADS)

// da, and per block of rows the sums for A_log and dt_bias: partial [blocks][2][heads], or null when nobody wants them.
struct GradientArgs { Target a_gradient; const void* a; const float* a_log; const float* dt_bias; const float* gradient; float* partial; Columns columns; };
template <typename T> __device__ __forceinline__ void log_decay_gradient(const GradientArgs& g)
{
    __shared__ float room[THREADS];
    const int head = unit_of(g.columns), heads = g.columns.units;
    const bool inside = head < heads;
    float rate_sum = 0.f, bias_sum = 0.f;
    if (inside)
    {
        const float rate = -expf(g.a_log[head]), bias = g.dt_bias[head];
        for (i64 row = first_row(g.columns); row < g.columns.rows; row += row_step(g.columns))
        {
            const i64 i = row * heads + head;
            const float x = load((const T*)g.a, i) + bias, rated = rate * g.gradient[i], da = rated * sigmoid_of<float>(x);
            rate_sum = fmaf(rated, softplus_of(x), rate_sum);
            bias_sum += da;
            if (g.a_gradient.to) write<T>(g.a_gradient, i, da);
        }
    }
    if (!g.partial) return;
    rate_sum = sum_lanes(g.columns, rate_sum, room);
    bias_sum = sum_lanes(g.columns, bias_sum, room);
    if (inside && threadIdx.x < (1u << g.columns.shift))
    {
        g.partial[blockIdx.x * 2ll * heads + head] = rate_sum;
        g.partial[(blockIdx.x * 2ll + 1) * heads + head] = bias_sum;
    }
}
BOTH_TYPES(log_decay_gradient, GradientArgs, THREADS)
