#include "short_convolution.cuh"

constexpr int THREADS = 128;

// partial: per run the sums for the weight [channels][width] and, behind them, the bias [channels]; null when nobody wants them.
// dz: float32 [tokens][channels], working memory of filters that are not four wide.
struct GradientArgs { Layout layout; Target x_gradient; const void* gradient; const void* x; const float* weight; const float* bias; float* partial; float* dz; int silu; };

template <typename T> __device__ __forceinline__ float slope(float z, float dy, int silu) { return silu ? dy * silu_slope_of(z, sigmoid_of<T>(z)) : dy; }

// Four taps in one pass. With dz = dy SiLU'(z), z computed again: token t adds tap 3 - i times dz[t] to the gradient of input t - i, and the gradient of
// input t - 3 is complete then. The three tokens behind the run are visited too, for the gradients of its last inputs.
template <typename T, int N> __device__ __forceinline__ void convolve_gradient(const GradientArgs& a)
{
    const Layout& g = a.layout;
    const int unit = unit_of(g), channel = unit * N;
    const i64 run = run_of(g);
    if (unit >= g.units || run >= g.runs) return;
    const T* x = (const T*)a.x;
    const T* dy = (const T*)a.gradient;
    const Run tokens = tokens_of(g, run);
    const i64 stop = min(tokens.last + 3, tokens.row_end);
    Sequence s = sequence_at(g, tokens.first);

    float taps[N][4], bias[N], sums[N][4], bias_sums[N];
    float oldest[N], older[N], old[N];         // inputs of the last three tokens
    float third[N], second[N], first[N];       // what is known of the gradients of the inputs of the last three tokens
#pragma unroll
    for (int j = 0; j < N; j++)
    {
        Piece<float>::load(taps[j], a.weight + (channel + j) * 4ll);
        bias[j] = a.bias ? a.bias[channel + j] : 0.f;
        sums[j][0] = sums[j][1] = sums[j][2] = sums[j][3] = bias_sums[j] = third[j] = second[j] = first[j] = 0.f;
    }
    input_at(g, x, nullptr, s, tokens.first - 3, channel, oldest);
    input_at(g, x, nullptr, s, tokens.first - 2, channel, older);
    input_at(g, x, nullptr, s, tokens.first - 1, channel, old);

    // The sums over the run take its own tokens only.
    auto step = [&](i64 token, const float (&in)[N], const float (&out)[N], bool own)
    {
        if (token >= s.end)
        {
            advance(g, s, token);
#pragma unroll
            for (int j = 0; j < N; j++) oldest[j] = older[j] = old[j] = 0.f;
        }
        float dz[N], complete[N];
#pragma unroll
        for (int j = 0; j < N; j++)
        {
            const float z = fmaf(taps[j][3], in[j], fmaf(taps[j][2], old[j], fmaf(taps[j][1], older[j], fmaf(taps[j][0], oldest[j], bias[j]))));
            dz[j] = slope<T>(z, out[j], a.silu);
            if (own)
            {
                sums[j][0] = fmaf(dz[j], oldest[j], sums[j][0]);
                sums[j][1] = fmaf(dz[j], older[j], sums[j][1]);
                sums[j][2] = fmaf(dz[j], old[j], sums[j][2]);
                sums[j][3] = fmaf(dz[j], in[j], sums[j][3]);
                bias_sums[j] += dz[j];
            }
            oldest[j] = older[j];
            older[j] = old[j];
            old[j] = in[j];
        }
        // Nothing flows back over the beginning of a document.
        const i64 age = token - s.start;
#pragma unroll
        for (int j = 0; j < N; j++)
        {
            complete[j] = third[j];
            third[j] = second[j];
            second[j] = first[j];
            first[j] = taps[j][3] * dz[j];
        }
        if (age >= 3)
        {
#pragma unroll
            for (int j = 0; j < N; j++)
            {
                complete[j] = fmaf(taps[j][0], dz[j], complete[j]);
                third[j] = fmaf(taps[j][1], dz[j], third[j]);
                second[j] = fmaf(taps[j][2], dz[j], second[j]);
            }
        }
        else
        {
#pragma unroll
            for (int j = 0; j < N; j++)
            {
                if (age >= 2) third[j] = fmaf(taps[j][1], dz[j], third[j]);
                if (age >= 1) second[j] = fmaf(taps[j][2], dz[j], second[j]);
            }
        }
        if (a.x_gradient.to && token - 3 >= tokens.first) write_unit<T>(a.x_gradient, (token - 3) * g.channels + channel, complete);
    };

    i64 token = tokens.first;
    for (; token + 4 <= tokens.last; token += 4)
    {
        float in[4][N], out[4][N];
#pragma unroll
        for (int i = 0; i < 4; i++)
        {
            load_unit(in[i], x + (token + i) * g.channels + channel);
            load_unit(out[i], dy + (token + i) * g.channels + channel);
        }
#pragma unroll
        for (int i = 0; i < 4; i++) step(token + i, in[i], out[i], true);
    }
    for (; token < stop; token++)
    {
        float in[N], out[N];
        load_unit(in, x + token * g.channels + channel);
        load_unit(out, dy + token * g.channels + channel);
        step(token, in, out, token < tokens.last);
    }

    // At the end of a row nothing more can reach its last three tokens.
    if (a.x_gradient.to)
    {
        if (stop - 3 >= tokens.first && stop - 3 < tokens.last) write_unit<T>(a.x_gradient, (stop - 3) * g.channels + channel, third);
        if (stop - 2 >= tokens.first && stop - 2 < tokens.last) write_unit<T>(a.x_gradient, (stop - 2) * g.channels + channel, second);
        if (stop - 1 < tokens.last) write_unit<T>(a.x_gradient, (stop - 1) * g.channels + channel, first);
    }
    if (a.partial)
    {
        float* sum = a.partial + run * 5 * g.channels;
#pragma unroll
        for (int j = 0; j < N; j++)
        {
            if constexpr (N > 1) Piece<float>::store(sum + (channel + j) * 4ll, sums[j]);
            else
                for (int tap = 0; tap < 4; tap++) sum[channel * 4ll + tap] = sums[j][tap];
            sum[4ll * g.channels + channel + j] = bias_sums[j];
        }
    }
}
template <typename T> __device__ __forceinline__ void gradient_units(const GradientArgs& a) { convolve_gradient<T, 4>(a); }
template <typename T> __device__ __forceinline__ void gradient_channels(const GradientArgs& a) { convolve_gradient<T, 1>(a); }
// As many blocks to a multiprocessor as the host counts on when it cuts rows into runs.
extern "C" __global__ void __launch_bounds__(THREADS, 3) gradient_units_float32(const GradientArgs g) { gradient_units<float>(g); }
extern "C" __global__ void __launch_bounds__(THREADS, 4) gradient_units_bfloat16(const GradientArgs g) { gradient_units<bf16>(g); }
BOTH_TYPES(gradient_channels, GradientArgs, THREADS)

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
        a.dz[token * g.channels + channel] = slope<T>(z, load((const T*)a.gradient, token * g.channels + channel), a.silu);
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
