#include "short_convolution.cuh"

// partial: per row of blocks the sums for the weight [channels][width] and, behind them, the bias [channels], or per run where filters are not four wide; null
// when nobody wants them.
// dz: float32 [tokens][channels], working memory of filters that are not four wide.
struct GradientArgs { Layout layout; Target x_gradient; const void* gradient; const void* x; const float* weight; const float* bias; float* partial; float* dz; int silu; float epsilon; };

// Four taps in one pass. With dz the gradient of the sum z, which is computed again: token t adds tap 3 - i times dz[t] to the gradient of input t - i, and
// the gradient of input t - 3 is complete then. The three tokens behind the run are visited too, for the gradients of its last inputs.
// LANES as forward: the gradient of y from that of n = y r, r = (y y + epsilon)^-1/2, is r (dn - y r^2 (y dn)).
template <typename T, int N, bool PACKED, int LANES, bool SILU> __device__ __forceinline__ void gradient_of_run(const GradientArgs& a, float (&sums)[N][4], float (&bias_sums)[N])
{
    const Layout& g = a.layout;
    const int unit = unit_of(g), channel = unit * N;
    const i64 run = run_of(g);
    if (unit >= g.units || run >= g.runs) return;
    const Run tokens = tokens_of(g, run);
    const int count = (int)(tokens.last - tokens.first), stop = (int)(min(tokens.last + 3, tokens.row_end) - tokens.first);
    const i64 origin = tokens.first * g.channels + channel;
    const T* x = (const T*)a.x + origin;
    const T* dy = (const T*)a.gradient + origin;
    Ahead<T, N> inputs, gradients;
    constexpr bool WALKS = LANES == 0;   // heads have no registers to spare
    auto fetch = [&](int token)
    {
        if constexpr (WALKS)
        {
            inputs.fetch_walking(x, g.channels, token, stop);
            gradients.fetch_walking(dy, g.channels, token, stop);
        }
        else
        {
            inputs.fetch(x, g.channels, token, stop);
            gradients.fetch(dy, g.channels, token, stop);
        }
    };
    fetch(0);
    // Where a row is one sequence, its first token is known without another division.
    Sequence s = PACKED ? sequence_at(g, tokens.first) : Sequence{ tokens.row_end - g.time, tokens.row_end, 0 };
    Window<N> window;
    window.load_filter(a.weight, a.bias, channel);
    window.load_inputs(g, (const T*)a.x, nullptr, s, tokens.first, channel);
    int start = (int)max(s.start - tokens.first, -3ll), end = (int)min(s.end - tokens.first, (i64)stop);
    i64 behind = origin - 3ll * g.channels;                   // what the next token completes
    float third[N] = {}, second[N] = {}, first[N] = {};       // what is known of the gradients of the last three inputs

    // The sums over the run take its own tokens only.
    auto step = [&](int token, const float (&in)[N], const float (&out)[N], bool own)
    {
        if (PACKED && token >= end)
        {
            advance(g, s, tokens.first + token);
            start = (int)(s.start - tokens.first);
            end = (int)min(s.end - tokens.first, (i64)stop);
#pragma unroll
            for (int j = 0; j < N; j++) window.oldest[j] = window.older[j] = window.old[j] = 0.f;
        }
        float dz[N], slope[N], complete[N];
        if constexpr (LANES > 0)
        {
            float y[N], squares = 0.f, product = 0.f;
#pragma unroll
            for (int j = 0; j < N; j++)
            {
                const float z = window.value(j, in[j]), sigmoid = SILU ? sigmoid_of<T>(z) : 1.f;
                slope[j] = SILU ? silu_slope_of(z, sigmoid) : 1.f;
                y[j] = z * sigmoid;
                squares = fmaf(y[j], y[j], squares);
                product = fmaf(y[j], out[j], product);
            }
            const float scale = rsqrtf(head_sum<LANES>(squares) + a.epsilon), along = head_sum<LANES>(product) * scale * scale;
#pragma unroll
            for (int j = 0; j < N; j++) dz[j] = slope[j] * scale * (out[j] - y[j] * along);
        }
        else
        {
#pragma unroll
            for (int j = 0; j < N; j++)
            {
                const float z = window.value(j, in[j]);
                dz[j] = SILU ? out[j] * silu_slope_of(z, sigmoid_of<T>(z)) : out[j];
            }
        }
#pragma unroll
        for (int j = 0; j < N; j++)
        {
            if (own)
            {
                sums[j][0] = fmaf(dz[j], window.oldest[j], sums[j][0]);
                sums[j][1] = fmaf(dz[j], window.older[j], sums[j][1]);
                sums[j][2] = fmaf(dz[j], window.old[j], sums[j][2]);
                sums[j][3] = fmaf(dz[j], in[j], sums[j][3]);
                bias_sums[j] += dz[j];
            }
            window.push(j, in[j]);
            // Nothing flows back over the beginning of a document; that of a row is where its first run begins.
            const int age = token - start;
            complete[j] = !PACKED || age >= 3 ? fmaf(window.taps[j][0], dz[j], third[j]) : third[j];
            third[j] = !PACKED || age >= 2 ? fmaf(window.taps[j][1], dz[j], second[j]) : second[j];
            second[j] = !PACKED || age >= 1 ? fmaf(window.taps[j][2], dz[j], first[j]) : first[j];
            first[j] = window.taps[j][3] * dz[j];
        }
        if (a.x_gradient.to && token >= 3) write_unit<T>(a.x_gradient, WALKS ? behind : origin + (i64)(token - 3) * g.channels, complete);
        behind += g.channels;
    };

    int token = 0;
#pragma unroll 1
    for (; token + 4 <= stop; token += 4)
    {
        inputs.turn();
        gradients.turn();
        fetch(token + 4);
#pragma unroll
        for (int i = 0; i < 4; i++)
        {
            float in[N], out[N];
            inputs.now[i].open(in);
            gradients.now[i].open(out);
            step(token + i, in, out, true);
        }
    }
    // A run that is not the last of its row is a multiple of four long: what is left are the three tokens behind it, or tokens of its own.
    const bool own = token < count;
#pragma unroll
    for (int i = 0; i < 3; i++)
    {
        if (token + i < stop)
        {
            float in[N], out[N];
            inputs.next[i].open(in);
            gradients.next[i].open(out);
            step(token + i, in, out, own);
        }
    }

    // At the end of a row nothing more can reach its last three tokens.
    if (a.x_gradient.to)
    {
        if (stop - 3 >= 0 && stop - 3 < count) write_unit<T>(a.x_gradient, origin + (i64)(stop - 3) * g.channels, third);
        if (stop - 2 >= 0 && stop - 2 < count) write_unit<T>(a.x_gradient, origin + (i64)(stop - 2) * g.channels, second);
        if (stop - 1 < count) write_unit<T>(a.x_gradient, origin + (i64)(stop - 1) * g.channels, first);
    }
}

// What the runs of a block that have the same channels leave as sums, added up in their order. All threads of the block call it, with zeros where there is no run.
template <int N> __device__ __forceinline__ void leave_sums(const GradientArgs& a, float (&sums)[N][4], float (&bias_sums)[N])
{
    __shared__ __align__(16) float room[128][N][5];
    const Layout& g = a.layout;
    const int unit = unit_of(g), channel = unit * N, lane = threadIdx.x >> g.shift, lanes = blockDim.x >> g.shift;
    if (lanes > 1)
    {
        if (lane > 0)
        {
#pragma unroll
            for (int j = 0; j < N; j++)
            {
#pragma unroll
                for (int tap = 0; tap < 4; tap++) room[threadIdx.x][j][tap] = sums[j][tap];
                room[threadIdx.x][j][4] = bias_sums[j];
            }
        }
        __syncthreads();
    }
    if (lane > 0 || unit >= g.units) return;
    for (int other = 1; other < lanes; other++)
    {
        const float(&theirs)[N][5] = room[threadIdx.x + (other << g.shift)];
#pragma unroll
        for (int j = 0; j < N; j++)
        {
#pragma unroll
            for (int tap = 0; tap < 4; tap++) sums[j][tap] += theirs[j][tap];
            bias_sums[j] += theirs[j][4];
        }
    }
    float* sum = a.partial + (i64)blockIdx.x * 5 * g.channels;
#pragma unroll
    for (int j = 0; j < N; j++)
    {
        sum[4ll * g.channels + channel + j] = bias_sums[j];
        if constexpr (N > 1) Piece<float>::store(sum + (channel + j) * 4ll, sums[j]);
        else
            for (int tap = 0; tap < 4; tap++) sum[channel * 4ll + tap] = sums[j][tap];
    }
}

template <typename T, int N, bool PACKED, int LANES> __device__ __forceinline__ void convolve_gradient(const GradientArgs& a)
{
    float sums[N][4] = {}, bias_sums[N] = {};
    if (a.silu) gradient_of_run<T, N, PACKED, LANES, true>(a, sums, bias_sums);
    else gradient_of_run<T, N, PACKED, LANES, false>(a, sums, bias_sums);
    if (a.partial) leave_sums<N>(a, sums, bias_sums);
}

// Each kernel in both formats, with as many blocks to a multiprocessor as the host counts on when it cuts rows into runs.
#define BACKWARD(name, N, PACKED, LANES)                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(128, PACKED ? 2 : 3) name##_float32(const GradientArgs g) { convolve_gradient<float, N, PACKED, LANES>(g); }          \
    extern "C" __global__ void __launch_bounds__(128, PACKED ? 3 : 4) name##_bfloat16(const GradientArgs g) { convolve_gradient<bf16, N, PACKED, LANES>(g); }
