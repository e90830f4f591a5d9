#include "short_convolution_backward.cuh"

constexpr int THREADS = 128;

BACKWARD(gradient_units, 4, false, 0)
BACKWARD(gradient_packed_units, 4, true, 0)
BACKWARD(gradient_channels, 1, true, 0)

// Any number of taps, first the gradient of z, then what follows from it.
template <typename T> __device__ __forceinline__ void gradient_any_inner(const GradientArgs& a)
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
        float z = a.bias ? a.bias[channel] : 0.f;
        for (int tap = 0; tap < g.width; tap++)
        {
            float in[1];
            input_at(g, (const T*)a.x, nullptr, s, token - (g.width - 1) + tap, channel, in);
            z = fmaf(a.weight[(i64)channel * g.width + tap], in[0], z);
        }
        const float dy = load((const T*)a.gradient, token * g.channels + channel);
        a.dz[token * g.channels + channel] = a.silu ? dy * silu_slope_of(z, sigmoid_of<T>(z)) : dy;
    }
}
BOTH_TYPES(gradient_any_inner, GradientArgs, THREADS)

template <typename T> __device__ __forceinline__ void gradient_any(const GradientArgs& a)
{
    const Layout& g = a.layout;
    const int channel = unit_of(g), before = g.width - 1;
    const i64 run = run_of(g);
    if (channel >= g.units || run >= g.runs) return;
    const Run tokens = tokens_of(g, run);
    const Sequence beginning = sequence_at(g, tokens.first);
    if (a.x_gradient.to)
    {
        Sequence s = beginning;
        for (i64 token = tokens.first; token < tokens.last; token++)
        {
            advance(g, s, token);
            float sum = 0.f;
            for (int ahead = 0; ahead <= before && token + ahead < s.end; ahead++)
                sum = fmaf(a.weight[(i64)channel * g.width + before - ahead], a.dz[(token + ahead) * g.channels + channel], sum);
            write<T>(a.x_gradient, token * g.channels + channel, sum);
        }
    }
    if (!a.partial) return;
    float* sums = a.partial + run * (g.width + 1) * g.channels;
    for (int tap = 0; tap < g.width; tap++)
    {
        Sequence s = beginning;
        float sum = 0.f;
        for (i64 token = tokens.first; token < tokens.last; token++)
        {
            advance(g, s, token);
            const i64 source = token - before + tap;
            if (source >= s.start) sum = fmaf(a.dz[token * g.channels + channel], load((const T*)a.x, source * g.channels + channel), sum);
        }
        sums[(i64)channel * g.width + tap] = sum;
    }
    float sum = 0.f;
    for (i64 token = tokens.first; token < tokens.last; token++) sum += a.dz[token * g.channels + channel];
    sums[(i64)g.width * g.channels + channel] = sum;
}
BOTH_TYPES(gradient_any, GradientArgs, THREADS)
