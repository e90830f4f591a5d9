#include "activations.cuh"
#include "units.cuh"

constexpr int THREADS = 256;

template <typename T> __device__ __forceinline__ void swi_glu(const MapArgs& g) { map<T, 2>(g, [](float gate, float up) { return gate * sigmoid_of<T>(gate) * up; }); }
BOTH_TYPES(swi_glu, MapArgs, THREADS)

// Both gradients in one pass: `whole` when every address is a multiple of 16. `product`: null, or where SiLU(gate) up is written again, which may be where
// the gradient lies, because a thread has read its piece by then.
struct GradientArgs { Target gate_gradient, up_gradient; const void* gate; const void* up; const void* gradient; void* product; i64 count; i64 whole; };

// From dy, gate and up to SiLU(gate) up, rounded as forward, dgate and dup, in their place.
template <typename T> __device__ __forceinline__ void differentiate(float& dy, float& gate, float& up)
{
    float s = sigmoid_of<T>(gate), silu = gate * s, product = silu * up, by_gate = dy * up * silu_slope_of(gate, s);
    up = dy * silu;
    gate = by_gate;
    dy = product;
}

template <typename T> __device__ __forceinline__ void swi_glu_gradient(const GradientArgs& g)
{
    constexpr int N = Piece<T>::N;
    const T* gates = (const T*)g.gate;
    const T* ups = (const T*)g.up;
    const T* gradients = (const T*)g.gradient;
    i64 pieces = g.whole ? g.count / N : 0;
    EACH(i, pieces)
    {
        float dy[N], gate[N], up[N];
        Piece<T>::load(gate, gates + i * N);
        Piece<T>::load(up, ups + i * N);
        Piece<T>::load(dy, gradients + i * N);
#pragma unroll
        for (int j = 0; j < N; j++) differentiate<T>(dy[j], gate[j], up[j]);
        if (g.gate_gradient.to) write_piece<T>(g.gate_gradient, i * N, gate);
        if (g.up_gradient.to) write_piece<T>(g.up_gradient, i * N, up);
        if (g.product) Piece<T>::store((T*)g.product + i * N, dy);
    }
    EACH(rest, g.count - pieces * N)
    {
        i64 i = pieces * N + rest;
        float dy = load(gradients, i), gate = load(gates, i), up = load(ups, i);
        differentiate<T>(dy, gate, up);
        if (g.gate_gradient.to) write<T>(g.gate_gradient, i, gate);
        if (g.up_gradient.to) write<T>(g.up_gradient, i, up);
        if (g.product) store((T*)g.product, i, dy);
    }
}
BOTH_TYPES(swi_glu_gradient, GradientArgs, THREADS)
