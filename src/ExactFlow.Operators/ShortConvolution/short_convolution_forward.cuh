#include "short_convolution.cuh"

struct ForwardArgs { Layout layout; void* y; const void* x; const float* weight; const float* bias; float* state; int silu, carries; float epsilon; };

template <typename T> __device__ __forceinline__ float finish(float z, int silu) { return silu ? z * sigmoid_of<T>(z) : z; }

// Four taps: the last three inputs stay in registers, so every input is read once. Four tokens are computed on while the next four are on their way.
// LANES: how many neighbouring threads hold a head whose outputs are scaled to unit length, all in one warp; 0 for none.
template <typename T, int N, bool PACKED, int LANES> __device__ __forceinline__ void convolve(const ForwardArgs& a)
{
    const Layout& g = a.layout;
    const int unit = unit_of(g), channel = unit * N;
    const i64 run = run_of(g);
    if (unit >= g.units || run >= g.runs) return;
    const Run tokens = tokens_of(g, run);
    const i64 origin = tokens.first * g.channels + channel;
    const T* x = (const T*)a.x + origin;
    T* y = (T*)a.y + origin;
    const int count = (int)(tokens.last - tokens.first);
    Ahead<T, N> inputs;
    inputs.fetch(x, g.channels, 0, count);
    Sequence s = sequence_at(g, tokens.first);
    Window<N> window;
    window.load_filter(a.weight, a.bias, channel);
    window.load_inputs(g, (const T*)a.x, a.state, s, tokens.first, channel);
    int end = (int)min(s.end - tokens.first, (i64)count);
    auto step = [&](int token, const float (&in)[N])
    {
        if (PACKED && token >= end)
        {
            advance(g, s, tokens.first + token);
            window.load_inputs(g, (const T*)a.x, a.state, s, tokens.first + token, channel);
            end = (int)min(s.end - tokens.first, (i64)count);
        }
        float out[N];
#pragma unroll
        for (int j = 0; j < N; j++)
        {
            out[j] = finish<T>(window.value(j, in[j]), a.silu);
            window.push(j, in[j]);
        }
        if constexpr (LANES > 0)
        {
            float sum = 0.f;
#pragma unroll
            for (int j = 0; j < N; j++) sum = fmaf(out[j], out[j], sum);
            const float scale = rsqrtf(head_sum<LANES>(sum) + a.epsilon);
#pragma unroll
            for (int j = 0; j < N; j++) out[j] *= scale;
        }
        store_unit(y + (i64)token * g.channels, out);
    };
    int token = 0;
#pragma unroll 1
    for (; token + 4 <= count; token += 4)
    {
        inputs.turn();
        inputs.fetch(x, g.channels, token + 4, count);
#pragma unroll
        for (int i = 0; i < 4; i++)
        {
            float in[N];
            inputs.now[i].open(in);
            step(token + i, in);
        }
    }
#pragma unroll 1
    for (; token < count; token++)
    {
        float in[N];
        load_unit(in, x + (i64)token * g.channels);
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

// Each kernel in both formats, with as many blocks to a multiprocessor as the host counts on when it cuts rows into runs.
#define FORWARD(name, N, PACKED, LANES)                                                                                                             \
    extern "C" __global__ void __launch_bounds__(128, PACKED ? 4 : 5) name##_float32(const ForwardArgs g) { convolve<float, N, PACKED, LANES>(g); }              \
    extern "C" __global__ void __launch_bounds__(128, PACKED ? 5 : 6) name##_bfloat16(const ForwardArgs g) { convolve<bf16, N, PACKED, LANES>(g); }
