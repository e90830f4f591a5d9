#include "elements.cuh"

// Units of consecutive elements as floats, and two ways over a tensor: along its elements, and by columns of its rows.

// N consecutive elements: 1, 4 or 8. More than one: the address is a multiple of 16 bytes, or of the unit's own size where that is less.
template <typename T, int N> __device__ __forceinline__ void load_unit(float (&x)[N], const T* p)
{
    if constexpr (N == 1) x[0] = load(p, 0);
    else if constexpr (N == Piece<T>::N) Piece<T>::load(x, p);
    else if constexpr (sizeof(T) == 4)
    {
        static_assert(N == 8, "float32 units are 1, 4 or 8 long");
        float4 a = reinterpret_cast<const float4*>(p)[0], b = reinterpret_cast<const float4*>(p)[1];
        x[0] = a.x; x[1] = a.y; x[2] = a.z; x[3] = a.w; x[4] = b.x; x[5] = b.y; x[6] = b.z; x[7] = b.w;
    }
    else
    {
        static_assert(N == 4, "bfloat16 units are 1, 4 or 8 long");
        uint2 v = *reinterpret_cast<const uint2*>(p);
        x[0] = __uint_as_float(v.x << 16); x[1] = __uint_as_float(v.x & 0xFFFF0000u);
        x[2] = __uint_as_float(v.y << 16); x[3] = __uint_as_float(v.y & 0xFFFF0000u);
    }
}
template <typename T, int N> __device__ __forceinline__ void store_unit(T* p, const float (&x)[N])
{
    if constexpr (N == 1) store(p, 0, x[0]);
    else if constexpr (N == Piece<T>::N) Piece<T>::store(p, x);
    else if constexpr (sizeof(T) == 4)
    {
        reinterpret_cast<float4*>(p)[0] = make_float4(x[0], x[1], x[2], x[3]);
        reinterpret_cast<float4*>(p)[1] = make_float4(x[4], x[5], x[6], x[7]);
    }
    else *reinterpret_cast<uint2*>(p) = make_uint2(pack(x[0], x[1]), pack(x[2], x[3]));
}
template <typename T, int N> __device__ __forceinline__ void write_unit(const Target& t, i64 i, float (&x)[N])
{
    T* to = (T*)t.to + i;
    if (t.accumulate)
    {
        float old[N];
        load_unit(old, to);
#pragma unroll
        for (int j = 0; j < N; j++) x[j] += old[j];
    }
    store_unit(to, x);
}

// to[i] (+)= f(a[i], b[i]) for i < count; without b for functions of one input. `whole` when every address is a multiple of 16.
struct MapArgs { Target to; const void* a; const void* b; i64 count; i64 whole; float factor; };
template <typename T, int INPUTS, typename F> __device__ __forceinline__ void map(const MapArgs& g, F f)
{
    constexpr int N = Piece<T>::N;
    const T* a = (const T*)g.a;
    const T* b = (const T*)g.b;
    i64 pieces = g.whole ? g.count / N : 0;
    EACH(i, pieces)
    {
        float x[N], y[N];
        Piece<T>::load(x, a + i * N);
        if constexpr (INPUTS == 2) Piece<T>::load(y, b + i * N);
#pragma unroll
        for (int j = 0; j < N; j++)
        {
            if constexpr (INPUTS == 2) x[j] = f(x[j], y[j]);
            else x[j] = f(x[j]);
        }
        write_piece<T>(g.to, i * N, x);
    }
    EACH(rest, g.count - pieces * N)
    {
        i64 i = pieces * N + rest;
        if constexpr (INPUTS == 2) write<T>(g.to, i, f(load(a, i), load(b, i)));
        else write<T>(g.to, i, f(load(a, i)));
    }
}

// Rows of `units` units, a thread keeping to its column: a block covers 2^shift units side by side and blockDim.x >> shift rows at a time. Blocks along x
// take rows in turn, blocks along y the units beyond. What belongs to a column is loaded once, and sums over rows stay in registers.
struct Columns { i64 rows; int units; int shift; };
__device__ __forceinline__ int unit_of(const Columns& c) { return (int)(blockIdx.y << c.shift) + (int)(threadIdx.x & ((1u << c.shift) - 1)); }
__device__ __forceinline__ i64 first_row(const Columns& c) { return (i64)blockIdx.x * (blockDim.x >> c.shift) + (threadIdx.x >> c.shift); }
__device__ __forceinline__ i64 row_step(const Columns& c) { return (i64)gridDim.x * (blockDim.x >> c.shift); }

// The sum of a column over the rows that the block takes at a time, to its first row's threads. `room` is blockDim.x floats, free again after the call.
__device__ __forceinline__ float sum_lanes(const Columns& c, float x, float* room)
{
    room[threadIdx.x] = x;
    __syncthreads();
    float sum = 0.f;
    if (threadIdx.x < (1u << c.shift))
        for (int at = threadIdx.x; at < (int)blockDim.x; at += 1 << c.shift) sum += room[at];
    __syncthreads();
    return sum;
}
