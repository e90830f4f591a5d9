#include "activations.cuh"
#include "units.cuh"

constexpr int THREADS = 256;

// Values, to = f(a), and gradients, to (+)= b f'(a).
#define ACTIVATION(name, value, slope)                                                                                                   \
    template <typename T> __device__ __forceinline__ void name(const MapArgs& g) { map<T, 1>(g, [](float x) { return value; }); }         \
    template <typename T> __device__ __forceinline__ void name##_gradient(const MapArgs& g) { map<T, 2>(g, [](float x, float dy) { return dy * (slope); }); } \
    BOTH_TYPES(name, MapArgs, THREADS)                                                                                                    \
    BOTH_TYPES(name##_gradient, MapArgs, THREADS)

ACTIVATION(silu, x * sigmoid_of<T>(x), silu_slope_of(x, sigmoid_of<T>(x)))
ACTIVATION(gelu, x * normal_cdf_of(x), gelu_slope_of(x))
ACTIVATION(sigmoid, sigmoid_of<T>(x), sigmoid_slope_of<T>(x))
ACTIVATION(softplus, softplus_of(x), sigmoid_of<T>(x))

template <typename T> __device__ __forceinline__ void add(const MapArgs& g) { map<T, 2>(g, [](float a, float b) { return a + b; }); }
template <typename T> __device__ __forceinline__ void multiply(const MapArgs& g) { map<T, 2>(g, [](float a, float b) { return a * b; }); }
template <typename T> __device__ __forceinline__ void scale(const MapArgs& g)
{
    const float factor = g.factor;
    map<T, 1>(g, [factor](float x) { return factor * x; });
}
BOTH_TYPES(add, MapArgs, THREADS)
BOTH_TYPES(multiply, MapArgs, THREADS)
BOTH_TYPES(scale, MapArgs, THREADS)

// to (+)= a in the other format, eight elements at a time.
template <typename To, typename From> __device__ __forceinline__ void convert(const MapArgs& g)
{
    const From* from = (const From*)g.a;
    i64 eights = g.whole ? g.count / 8 : 0;
    EACH(i, eights)
    {
        float x[8];
        load_unit(x, from + i * 8);
        write_unit<To>(g.to, i * 8, x);
    }
    EACH(rest, g.count - eights * 8) write<To>(g.to, eights * 8 + rest, load(from, eights * 8 + rest));
}
extern "C" __global__ void __launch_bounds__(THREADS) convert_to_float32(const MapArgs g) { convert<float, bf16>(g); }
extern "C" __global__ void __launch_bounds__(THREADS) convert_to_bfloat16(const MapArgs g) { convert<bf16, float>(g); }

// The sigmoid of bfloat16 in float32, and back: to (+)= b sigmoid'(a) with b in float32.
extern "C" __global__ void __launch_bounds__(THREADS) sigmoid_to_float32(const MapArgs g)
{
    const bf16* from = (const bf16*)g.a;
    i64 eights = g.whole ? g.count / 8 : 0;
    EACH(i, eights)
    {
        float x[8];
        load_unit(x, from + i * 8);
#pragma unroll
        for (int j = 0; j < 8; j++) x[j] = sigmoid_of<float>(x[j]);
        write_unit<float>(g.to, i * 8, x);
    }
    EACH(rest, g.count - eights * 8) write<float>(g.to, eights * 8 + rest, sigmoid_of<float>(load(from, eights * 8 + rest)));
}
extern "C" __global__ void __launch_bounds__(THREADS) sigmoid_to_float32_gradient(const MapArgs g)
{
    const bf16* from = (const bf16*)g.a;
    const float* gradient = (const float*)g.b;
    i64 eights = g.whole ? g.count / 8 : 0;
    EACH(i, eights)
    {
        float x[8], dy[8];
        load_unit(x, from + i * 8);
        load_unit(dy, gradient + i * 8);
#pragma unroll
        for (int j = 0; j < 8; j++) x[j] = dy[j] * sigmoid_slope_of<float>(x[j]);
        write_unit<bf16>(g.to, i * 8, x);
    }
    EACH(rest, g.count - eights * 8)
    {
        i64 i = eights * 8 + rest;
        write<bf16>(g.to, i, gradient[i] * sigmoid_slope_of<float>(load(from, i)));
    }
}

// y = x + row, by columns: a thread's part of the row is loaded once.
struct RowArgs { void* y; const void* x; const float* row; Columns columns; };
template <typename T, int N> __device__ __forceinline__ void add_row_units(const RowArgs& g)
{
    const int unit = unit_of(g.columns);
    if (unit >= g.columns.units) return;
    const i64 width = (i64)g.columns.units * N;
    float added[N];
    load_unit(added, g.row + unit * N);
    for (i64 row = first_row(g.columns); row < g.columns.rows; row += row_step(g.columns))
    {
        float x[N];
        load_unit(x, (const T*)g.x + row * width + unit * N);
#pragma unroll
        for (int j = 0; j < N; j++) x[j] += added[j];
        store_unit((T*)g.y + row * width + unit * N, x);
    }
}
template <typename T> __device__ __forceinline__ void add_row_pieces(const RowArgs& g) { add_row_units<T, Piece<T>::N>(g); }
template <typename T> __device__ __forceinline__ void add_row_elements(const RowArgs& g) { add_row_units<T, 1>(g); }
BOTH_TYPES(add_row_pieces, RowArgs, THREADS)
BOTH_TYPES(add_row_elements, RowArgs, THREADS)
