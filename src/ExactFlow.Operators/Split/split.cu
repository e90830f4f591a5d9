#include "units.cuh"

constexpr int THREADS = 256;
constexpr int PARTS = 16;

// Parts side by side in rows of `whole`, all in units: of 16, 8, 4 or 2 bytes for copies, of pieces or elements for sums.
struct Part { void* at; i64 first, width; };
struct SplitArgs { void* whole; i64 stride; Columns columns; i64 count; Part parts[PARTS]; };

__device__ __forceinline__ int part_of(const SplitArgs& g, int unit)
{
    int part = 0;
    while (unit >= g.parts[part].first + g.parts[part].width) part++;
    return part;
}

template <typename U> __device__ __forceinline__ void split(const SplitArgs& g)
{
    const int unit = unit_of(g.columns);
    if (unit >= g.columns.units) return;
    const Part part = g.parts[part_of(g, unit)];
    const U* from = (const U*)g.whole + unit;
    U* to = (U*)part.at + (unit - part.first);
#pragma unroll 4
    for (i64 row = first_row(g.columns); row < g.columns.rows; row += row_step(g.columns)) to[row * part.width] = from[row * g.stride];
}

// The parts' gradients side by side; zeros for a part that nobody used (null).
template <typename U> __device__ __forceinline__ void join(const SplitArgs& g)
{
    const int unit = unit_of(g.columns);
    if (unit >= g.columns.units) return;
    const Part part = g.parts[part_of(g, unit)];
    U* to = (U*)g.whole + unit;
    const U* from = (const U*)part.at + (unit - part.first);
    if (part.at)
    {
#pragma unroll 4
        for (i64 row = first_row(g.columns); row < g.columns.rows; row += row_step(g.columns)) to[row * g.stride] = from[row * part.width];
    }
    else
        for (i64 row = first_row(g.columns); row < g.columns.rows; row += row_step(g.columns)) to[row * g.stride] = U{};
}

#define COPIES(bytes, U)                                                                                              \
    extern "C" __global__ void __launch_bounds__(THREADS) split_##bytes(const SplitArgs g) { split<U>(g); }           \
    extern "C" __global__ void __launch_bounds__(THREADS) join_##bytes(const SplitArgs g) { join<U>(g); }
COPIES(16, uint4)
COPIES(8, uint2)
COPIES(4, unsigned int)
COPIES(2, unsigned short)

// Adds the parts' gradients to the one that is there.
template <typename T, int N> __device__ __forceinline__ void join_added(const SplitArgs& g)
{
    const int unit = unit_of(g.columns);
    if (unit >= g.columns.units) return;
    const Part part = g.parts[part_of(g, unit)];
    if (!part.at) return;
    const Target to = { g.whole, 1 };
    for (i64 row = first_row(g.columns); row < g.columns.rows; row += row_step(g.columns))
    {
        float x[N];
        load_unit(x, (const T*)part.at + (row * part.width + unit - part.first) * N);
        write_unit<T>(to, (row * g.stride + unit) * N, x);
    }
}
template <typename T> __device__ __forceinline__ void join_added_pieces(const SplitArgs& g) { join_added<T, Piece<T>::N>(g); }
template <typename T> __device__ __forceinline__ void join_added_elements(const SplitArgs& g) { join_added<T, 1>(g); }
BOTH_TYPES(join_added_pieces, SplitArgs, THREADS)
BOTH_TYPES(join_added_elements, SplitArgs, THREADS)
