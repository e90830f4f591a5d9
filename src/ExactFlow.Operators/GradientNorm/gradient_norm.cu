#include "parameter_chunk.cuh"

// The norm of all gradients: sums of squares in float64, where no square of a float32 overflows or vanishes; per block over its chunks, then over the
// blocks, both in a fixed order.

struct NormArgs
{
    const ParameterChunk* chunks;
    double* partials;   // one per block of gradient_norm_sums
    StepState* state;
    double maximum;     // largest norm allowed; 0 or less: any
    i64 count;          // chunks for the first kernel, partials for the second
    float scale;        // factor for all gradients
};

// The sum over a block of 256 threads, to the first thread.
__device__ __forceinline__ double block_sum_double(double x)
{
    __shared__ double room[8];
#pragma unroll
    for (int d = 16; d > 0; d >>= 1) x += __shfl_xor_sync(0xFFFFFFFFu, x, d);
    if ((threadIdx.x & 31) == 0) room[threadIdx.x >> 5] = x;
    __syncthreads();
    double total = 0.0;
    if (threadIdx.x == 0)
        for (int w = 0; w < 8; w++) total += room[w];
    return total;
}

extern "C" __global__ void __launch_bounds__(256) gradient_norm_sums(const NormArgs g)
{
    // Four sums per thread, so that additions do not wait for each other.
    double sums[4] = { 0.0, 0.0, 0.0, 0.0 };
    for (i64 c = blockIdx.x; c < g.count; c += gridDim.x)
    {
        const float* values = g.chunks[c].gradient;
        int length = g.chunks[c].length;
        int whole = ((u64)values & 15) == 0 ? length & ~3 : 0;
#pragma unroll 8
        for (int i = threadIdx.x * 4; i < whole; i += 1024)
        {
            float x[4];
            Piece<float>::load(x, values + i);
#pragma unroll
            for (int j = 0; j < 4; j++) sums[j] += (double)x[j] * (double)x[j];
        }
        for (int i = whole + threadIdx.x; i < length; i += 256) sums[0] += (double)values[i] * (double)values[i];
    }
    double total = block_sum_double((sums[0] + sums[1]) + (sums[2] + sums[3]));
    if (threadIdx.x == 0) g.partials[blockIdx.x] = total;
}

// One block: the norm, and what the optimizer makes of it.
extern "C" __global__ void __launch_bounds__(256) gradient_norm_finish(const NormArgs g)
{
    double sum = 0.0;
    for (i64 i = threadIdx.x; i < g.count; i += 256) sum += g.partials[i];
    double total = block_sum_double(sum);
    if (threadIdx.x == 0)
    {
        double norm = fabs((double)g.scale) * sqrt(total);
        g.state->norm = norm;
        g.state->is_finite = norm - norm == 0.0;
        g.state->factor = g.maximum > 0.0 && norm > g.maximum ? g.scale * (float)(g.maximum / norm) : g.scale;
    }
}
