#include "elements.cuh"

// Small loops over whole tensors: grid-stride, so any grid covers any length.

struct PairArgs { void* to; const void* from; i64 count; };

extern "C" __global__ void add_into_float32(const PairArgs g)
{
    float* to = (float*)g.to;
    const float* from = (const float*)g.from;
    EACH(i, g.count) to[i] += from[i];
}

extern "C" __global__ void add_into_bfloat16(const PairArgs g)
{
    bf16* to = (bf16*)g.to;
    const bf16* from = (const bf16*)g.from;
    EACH(i, g.count) to[i].bits = (unsigned short)pack(to_float(to[i]) + to_float(from[i]), 0.f);
}

extern "C" __global__ void float32_to_bfloat16(const PairArgs g)
{
    EACH(i, g.count) ((bf16*)g.to)[i].bits = (unsigned short)pack(((const float*)g.from)[i], 0.f);
}

extern "C" __global__ void bfloat16_to_float32(const PairArgs g)
{
    EACH(i, g.count) ((float*)g.to)[i] = to_float(((const bf16*)g.from)[i]);
}
