// The delta rule on tensor cores: bfloat16 in and out, float32 state and accumulation, chunks of 64 tokens.
//
// Normalised form (unit keys kn = k / |k|); per chunk, with S0 the state before it and c the running sum of log decays:
//     A = strict_lower( en_r (kn_r . kn_i) exp(c_r - c_i) )            T = (I + A)^-1
//     U = T ( wn V - en exp(c) Kn S0 )
//     O = scale ( exp(c) Q S0 + P U )        P = lower( (q_r . kn_i) exp(c_r - c_i) )
//     S = exp(c_C) S0 + Kn^T ( exp(c_C - c) U )
// Raw keys stay in memory; 1/|k| is folded into row scalings, which bfloat16 (the exponent range of float32) does not mind.

constexpr int C = 64;          // tokens per chunk
template <int W> constexpr int STAGES = 4 - W;   // chunks that a scan of W slices has in shared memory: one in work, the others on their way
