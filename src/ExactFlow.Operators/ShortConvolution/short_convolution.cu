#include "short_convolution_forward.cuh"

constexpr int THREADS = 128;

FORWARD(convolve_units, 4, false, 0)
FORWARD(convolve_packed_units, 4, true, 0)
FORWARD(convolve_channels, 1, true, 0)

// The sum of any number of taps, each input read again from the cache.
template <typename T> __device__ __forceinline__ void convolve_any(const ForwardArgs& a)
{
    const Layout& g = a.layout;
    const int channel = unit_of(g);
    const i64 run = run_of(g);
    if (channel >= g.units || run >= g.runs) return;
    const Run tokens = tokens_of(g, run);
    Sequence s = sequence_at(g, tokens.first);
    for (i64 token = tokens.first; token < tokens.last; token++)
    {
        advance(g, s, token);
        float sum = a.bias ? a.bias[channel] : 0.f;
        for (int tap = 0; tap < g.width; tap++)
        {
            float in[1];
            input_at(g, (const T*)a.x, a.state, s, token - (g.width - 1) + tap, channel, in);
            sum = fmaf(a.weight[(i64)channel * g.width + tap], in[0], sum);
        }
        store((T*)a.y, token * g.channels + channel, finish<T>(sum, a.silu));
    }
}
BOTH_TYPES(convolve_any, ForwardArgs, THREADS)

// Replaces the states of sequences by the last width - 1 inputs of state and sequence together; one thread per sequence and channel, oldest entry first.
struct CarryArgs { float* state; const void* x; const int* offsets; i64 time; i64 count; int channels, kept; };
template <typename T> __device__ __forceinline__ void carry(const CarryArgs& g)
{
    EACH(i, g.count)
    {
        const i64 sequence = i / g.channels;
        const int channel = (int)(i - sequence * g.channels);
        const i64 start = g.offsets ? g.offsets[sequence] : sequence * g.time, length = (g.offsets ? g.offsets[sequence + 1] : (sequence + 1) * g.time) - start;
        float* entries = g.state + i * g.kept;
        for (int k = 0; k < g.kept; k++)
            entries[k] = k + length < g.kept ? entries[k + length] : load((const T*)g.x, (start + length - g.kept + k) * g.channels + channel);
    }
}
BOTH_TYPES(carry, CarryArgs, THREADS)
