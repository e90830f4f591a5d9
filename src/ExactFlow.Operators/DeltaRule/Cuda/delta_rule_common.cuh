#include "wgmma.cuh"

// The delta rule on tensor cores: bfloat16 in and out, float32 state and accumulation, chunks of 64 tokens.
//
// Normalised form (unit keys kn = k / |k|); per chunk, with S0 the state before it and c the running sum of log decays:
//     A = strict_lower( en_r (kn_r . kn_i) exp(c_r - c_i) )            T = (I + A)^-1
//     U = T ( wn V - en exp(c) Kn S0 )
//     O = scale ( exp(c) Q S0 + P U )        P = lower( (q_r . kn_i) exp(c_r - c_i) )
//     S = exp(c_C) S0 + Kn^T ( exp(c_C - c) U )
// Raw keys stay in memory; 1/|k| is folded into row scalings, which bfloat16 (the exponent range of float32) does not mind.

constexpr int C = 64;          // tokens per chunk
constexpr int PAD = 8;         // bf16 elements added to each row of a plain tile: ldmatrix then touches every bank once

// In the order of the host's table.
enum Rule { EFLA = 0, DELTANET = 1, IMPLICIT_EULER = 2, CAYLEY = 3, RK2 = 4, RK4 = 5, EXPLICIT_EULER = 6, LINEAR = 7, MAMBA2 = 8, GATED_DELTANET = 9, GATED_EFLA = 10, LOG_RATE = 11 };

// Scalars of one token in normalised form.
struct Scalars { float en, wn, logg, inv; };

__device__ __forceinline__ float phi1(float x) { return x < 1e-4f ? 1.f - 0.5f * x : -expm1f(-x) / x; }

__device__ __forceinline__ Scalars coefficients(int rule, float lambda, float beta, float logdecay)
{
    Scalars s;
    lambda = fmaxf(lambda, 1e-24f);
    float norm = sqrtf(lambda);
    s.inv = 1.f / norm;
    s.logg = 0.f;
    float x = beta * lambda, e = beta, w = beta;
    switch (rule)
    {
        case EFLA: e = w = beta * phi1(x); break;
        case DELTANET:
        case GATED_DELTANET:
        {
            float unit2 = lambda / (lambda + 1e-6f);
            s.en = beta * unit2;
            s.wn = beta * sqrtf(unit2);
            s.logg = rule == GATED_DELTANET ? logdecay : 0.f;
            return s;
        }
        case IMPLICIT_EULER: e = w = beta / (1.f + x); break;
        case CAYLEY: e = w = beta / (1.f + 0.5f * x); break;
        case RK2: e = w = beta * (1.f - 0.5f * x); break;
        case RK4: e = w = beta * (1.f - 0.5f * x + x * x * (1.f / 6.f) - x * x * x * (1.f / 24.f)); break;
        case LINEAR: e = 0.f; w = 1.f; break;
        case MAMBA2: e = 0.f; s.logg = logdecay; break;
        case GATED_EFLA:
        {
            float alpha = expf(logdecay), d = -expm1f(logdecay), r = alpha * beta;
            s.logg = -d;
            e = r * phi1(r * lambda);
            w = beta * phi1(d + r * lambda);
            break;
        }
        case LOG_RATE: s.logg = logdecay; e = beta * phi1(x); w = beta * phi1(x - logdecay); break;
        default: break;
    }
    s.en = e * lambda;
    s.wn = w * norm;
    return s;
}
