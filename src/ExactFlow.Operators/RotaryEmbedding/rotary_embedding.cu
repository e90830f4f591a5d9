#include "units.cuh"

constexpr int THREADS = 256;

// A thread turns one unit of pairs of one token in `heads_per_thread` heads after one another, so that angles are computed once for them.
// `turns`: turns of a pair per position, float64. `offsets`: where packed documents begin, or null.
struct RotaryArgs
{
    Target y;
    const void* x;
    const double* turns;
    const int* offsets;
    i64 tokens;
    int time, documents, position, heads, heads_per_thread, units, backwards;
};

// Position of a token in its row or document.
__device__ __forceinline__ i64 position_of(const RotaryArgs& g, i64 token)
{
    if (!g.offsets) return g.position + token % g.time;
    int low = 0, high = g.documents - 1;
    while (low < high)
    {
        int middle = (low + high) >> 1;
        if (g.offsets[middle + 1] <= token) low = middle + 1;
        else high = middle;
    }
    return g.position + token - g.offsets[low];
}

template <typename T, int N> __device__ __forceinline__ void rotate(const RotaryArgs& g)
{
    const int groups = (g.heads + g.heads_per_thread - 1) / g.heads_per_thread, half = g.units * N;
    EACH(index, g.tokens * groups * g.units)
    {
        const int unit = (int)(index % g.units), group = (int)(index / g.units % groups);
        const i64 token = index / g.units / groups;
        const double position = (double)position_of(g, token);
        float cosine[N], sine[N];
#pragma unroll
        for (int j = 0; j < N; j++)
        {
            // Whole turns are taken off in float64: a position of a million loses no more than the first.
            double turns = position * g.turns[unit * N + j];
            sincospif(2.f * (float)(turns - rint(turns)), &sine[j], &cosine[j]);
            if (g.backwards) sine[j] = -sine[j];
        }
        const int last = min((group + 1) * g.heads_per_thread, g.heads);
        for (int head = group * g.heads_per_thread; head < last; head++)
        {
            const i64 at = (token * g.heads + head) * 2 * half + unit * N;
            float low[N], high[N];
            load_unit(low, (const T*)g.x + at);
            load_unit(high, (const T*)g.x + at + half);
#pragma unroll
            for (int j = 0; j < N; j++)
            {
                float turned = low[j] * cosine[j] - high[j] * sine[j];
                high[j] = high[j] * cosine[j] + low[j] * sine[j];
                low[j] = turned;
            }
            write_unit<T>(g.y, at, low);
            write_unit<T>(g.y, at + half, high);
        }
    }
}
template <typename T> __device__ __forceinline__ void rotate_pieces(const RotaryArgs& g) { rotate<T, Piece<T>::N>(g); }
template <typename T> __device__ __forceinline__ void rotate_elements(const RotaryArgs& g) { rotate<T, 1>(g); }
BOTH_TYPES(rotate_pieces, RotaryArgs, THREADS)
BOTH_TYPES(rotate_elements, RotaryArgs, THREADS)
