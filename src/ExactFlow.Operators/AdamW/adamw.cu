#include "parameter_chunk.cuh"

// One step over all parameters: a block per chunk. Reads gradient, value and both moments once, writes value, moments and the copy in bfloat16 once.

struct AdamWArgs
{
    const ParameterChunk* chunks;
    const StepState* state;
    float beta1, rest1, beta2, rest2, epsilon;   // rest = 1 - beta, rounded from float64
};

// The new value of one parameter, and its moments in place.
__device__ __forceinline__ float updated(float value, float gradient, float& m, float& v, const AdamWArgs& g, const StepState& s, float shrink)
{
    float scaled = gradient * s.factor;
    m = g.beta1 * m + g.rest1 * scaled;
    v = g.beta2 * v + scaled * (scaled * g.rest2);
    return value * shrink - s.step_size * (m / (sqrtf(v) * s.root_correction + g.epsilon));
}

extern "C" __global__ void __launch_bounds__(256) adamw_update(const AdamWArgs g)
{
    const StepState s = *g.state;
    if (!s.is_finite) return;
    const ParameterChunk c = g.chunks[blockIdx.x];
    const float shrink = c.decays ? s.shrink : 1.f;
    const bool aligned = (((u64)c.gradient | (u64)c.value | (u64)c.first | (u64)c.second | (u64)c.working << 1) & 15) == 0;
    const int whole = aligned ? c.length & ~3 : 0;
#pragma unroll 2
    for (int i = threadIdx.x * 4; i < whole; i += 1024)
    {
        float gradient[4], value[4], m[4], v[4];
        Piece<float>::load(gradient, c.gradient + i);
        Piece<float>::load(value, c.value + i);
        Piece<float>::load(m, c.first + i);
        Piece<float>::load(v, c.second + i);
#pragma unroll
        for (int j = 0; j < 4; j++) value[j] = updated(value[j], gradient[j], m[j], v[j], g, s, shrink);
        Piece<float>::store(c.value + i, value);
        Piece<float>::store(c.first + i, m);
        Piece<float>::store(c.second + i, v);
        if (c.working) *reinterpret_cast<uint2*>(c.working + i) = make_uint2(pack(value[0], value[1]), pack(value[2], value[3]));
    }
    for (int i = whole + threadIdx.x; i < c.length; i += 256)
    {
        float m = c.first[i], v = c.second[i];
        float value = updated(c.value[i], c.gradient[i], m, v, g, s, shrink);
        c.value[i] = value;
        c.first[i] = m;
        c.second[i] = v;
        if (c.working) store(c.working, i, value);
    }
}

// Steps whose factors were written down beforehand, so that many of them follow each other without the host: take the factors of the step that is next ...
struct ScheduledArgs { const StepState* schedule; StepState* state; int* position; const float* loss; int* record; };

extern "C" __global__ void __launch_bounds__(32) adamw_take(const ScheduledArgs g)
{
    if (threadIdx.x == 0) *g.state = g.schedule[*g.position];
}

// ... and, after it, note its loss and whether it was applied, and go on to the next. The record is the sum of the losses (a float32) and the number of steps applied.
extern "C" __global__ void __launch_bounds__(32) adamw_note(const ScheduledArgs g)
{
    if (threadIdx.x != 0) return;
    ((float*)g.record)[0] += *g.loss;
    g.record[1] += g.state->is_finite;
    *g.position += 1;
}
