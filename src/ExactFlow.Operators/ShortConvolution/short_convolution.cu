#include "short_convolution.cuh"

constexpr int THREADS = 128;

struct ForwardArgs { Layout layout; void* y; const void* x; const float* weight; const float* bias; float* state; int silu, carries; };

template <typename T> __device__ __forceinline__ float finish(float z, int silu) { return silu ? z * sigmoid_of<T>(z) : z; }

// Four taps: the last three inputs stay in registers, so every input is read once, four tokens ahead of their use.
template <typename T, int N> struct Window
{
    float taps[N][4], bias[N], oldest[N], older[N], old[N];

    __device__ __forceinline__ void load_filter(const float* weight, const float* biases, int channel)
    {
#pragma unroll
        for (int j = 0; j < N; j++)
        {
            Piece<float>::load(taps[j], weight + (channel + j) * 4ll);
            bias[j] = biases ? biases[channel + j] : 0.f;
        }
    }
    __device__ __forceinline__ void load_inputs(const Layout& g, const T* x, const float* state, const Sequence& s, i64 token, int channel)
    {
        input_at(g, x, state, s, token - 3, channel, oldest);
        input_at(g, x, state, s, token - 2, channel, older);
        input_at(g, x, state, s, token - 1, channel, old);
    }
    __device__ __forceinline__ float value(int j, float x) const
    {
        return fmaf(taps[j][3], x, fmaf(taps[j][2], old[j], fmaf(taps[j][1], older[j], fmaf(taps[j][0], oldest[j], bias[j]))));
    }
    __device__ __forceinline__ void push(int j, float x)
    {
        oldest[j] = older[j];
        older[j] = old[j];
        old[j] = x;
    }
};

template <typename T, int N> __device__ __forceinline__ void convolve(const ForwardArgs& a)
{
    const Layout& g = a.layout;
    const int unit = unit_of(g), channel = unit * N;
    const i64 run = run_of(g);
    if (unit >= g.units || run >= g.runs) return;
    const T* x = (const T*)a.x;
    T* y = (T*)a.y;
    const Run tokens = tokens_of(g, run);
    Sequence s = sequence_at(g, tokens.first);
    Window<T, N> window;
    window.load_filter(a.weight, a.bias, channel);
    window.load_inputs(g, x, a.state, s, tokens.first, channel);
    auto step = [&](i64 token, const float (&in)[N])
    {
        if (token >= s.end)
        {
            advance(g, s, token);
            window.load_inputs(g, x, a.state, s, token, channel);
        }
        float out[N];
#pragma unroll
        for (int j = 0; j < N; j++)
        {
            out[j] = finish<T>(window.value(j, in[j]), a.silu);
            window.push(j, in[j]);
        }
        store_unit(y + token * g.channels + channel, out);
    };
    i64 token = tokens.first;
    for (; token + 4 <= tokens.last; token += 4)
    {
        float in[4][N];
#pragma unroll
        for (int i = 0; i < 4; i++) load_unit(in[i], x + (token + i) * g.channels + channel);
#pragma unroll
        for (int i = 0; i < 4; i++) step(token + i, in[i]);
    }
    for (; token < tokens.last; token++)
    {
        float in[N];
        load_unit(in, x + token * g.channels + channel);
        step(token, in);
    }
    if (!a.carries) return;
    float* state = a.state + (s.index * g.channels + channel) * 3;
#pragma unroll
    for (int j = 0; j < N; j++)
    {
        state[j * 3] = window.oldest[j];
        state[j * 3 + 1] = window.older[j];
        state[j * 3 + 2] = window.old[j];
    }
}
template <typename T> __device__ __forceinline__ void convolve_units(const ForwardArgs& a) { convolve<T, 4>(a); }
template <typename T> __device__ __forceinline__ void convolve_channels(const ForwardArgs& a) { convolve<T, 1>(a); }
// As many blocks to a multiprocessor as the host counts on when it cuts rows into runs.
extern "C" __global__ void __launch_bounds__(THREADS, 6) convolve_units_float32(const ForwardArgs g) { convolve_units<float>(g); }
extern "C" __global__ void __launch_bounds__(THREADS, 7) convolve_units_bfloat16(const ForwardArgs g) { convolve_units<bf16>(g); }
BOTH_TYPES(convolve_channels, ForwardArgs, THREADS)

// The sum of any number of taps, each input read again from the cache.
template <typename T> __device__ __forceinline__ float any_value(const Layout& g, const T* x, const float* weight, const float* bias, const float* state, const Sequence& s, i64 token, int channel)
{
    float sum = bias ? bias[channel] : 0.f;
    for (int tap = 0; tap < g.width; tap++)
    {
        float in[1];
        input_at(g, x, state, s, token - (g.width - 1) + tap, channel, in);
        sum = fmaf(weight[(i64)channel * g.width + tap], in[0], sum);
    }
    return sum;
}

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
        store((T*)a.y, token * g.channels + channel, finish<T>(any_value(g, (const T*)a.x, a.weight, a.bias, a.state, s, token, channel), a.silu));
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
