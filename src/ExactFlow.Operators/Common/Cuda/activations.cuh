#include "elements.cuh"

// Activations and their slopes in float32. Results that are rounded to bfloat16 take exponential and quotient from the special function units;
// float32 results take the full functions.

template <typename T> __device__ __forceinline__ float exp_of(float x) { return expf(x); }
template <> __device__ __forceinline__ float exp_of<bf16>(float x) { return exp2_approximate(1.44269504f * x); }
template <typename T> __device__ __forceinline__ float quotient_of(float x, float y) { return x / y; }
template <> __device__ __forceinline__ float quotient_of<bf16>(float x, float y) { return x * reciprocal_approximate(y); }

// 1 / (1 + e^-x): where the exponential overflows, 0.
template <typename T> __device__ __forceinline__ float sigmoid_of(float x) { return quotient_of<T>(1.f, 1.f + exp_of<T>(-x)); }

// s (1 + x (1 - s)) with s = sigmoid(x); x is bounded so that an infinite one gives 0 or 1.
__device__ __forceinline__ float silu_slope_of(float x, float s) { return s * fmaf(fminf(fmaxf(x, -128.f), 128.f), 1.f - s, 1.f); }

// z / (1 + z)^2 with z = e^-abs(x): s (1 - s) without the cancellation of 1 - s.
template <typename T> __device__ __forceinline__ float sigmoid_slope_of(float x)
{
    float z = exp_of<T>(-fabsf(x)), sum = 1.f + z;
    return quotient_of<T>(z, sum * sum);
}

__device__ __forceinline__ float softplus_of(float x) { return fmaxf(x, 0.f) + log1pf(expf(-fabsf(x))); }

// The standard normal distribution function, erfc(-x / sqrt 2) / 2: no cancellation in its left tail.
__device__ __forceinline__ float normal_cdf_of(float x) { return 0.5f * erfcf(-0.70710678f * x); }
__device__ __forceinline__ float gelu_slope_of(float x)
{
    float bounded = fminf(fmaxf(x, -15.f), 15.f);
    return fmaf(bounded, 0.3989422804f * expf(-0.5f * bounded * bounded), normal_cdf_of(x));
}
