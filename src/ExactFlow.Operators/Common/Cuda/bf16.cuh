// bfloat16 without the toolkit's headers: kernels are compiled where only the run-time compiler may be installed.

#ifndef DYNAMIC_SHARED
#define DYNAMIC_SHARED(name) extern __shared__ __align__(1024) unsigned char name[]
#endif

struct bf16 { unsigned short bits; };
struct bf16x2 { unsigned int bits; };

typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

__device__ __forceinline__ float to_float(bf16 x) { return __uint_as_float((u32)x.bits << 16); }
__device__ __forceinline__ float2 to_float2(bf16x2 x) { return make_float2(__uint_as_float(x.bits << 16), __uint_as_float(x.bits & 0xFFFF0000u)); }

#ifndef EXACTFLOW_EMULATION
// Two floats rounded to nearest even; lo comes first in memory.
__device__ __forceinline__ u32 pack(float lo, float hi)
{
    u32 r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
    return r;
}
// 2^x and 1 / x from the special function units, one instruction each: to 2^-22, denormal numbers as 0.
__device__ __forceinline__ float exp2_approximate(float x)
{
    float r;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
}
__device__ __forceinline__ float reciprocal_approximate(float x)
{
    float r;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
}
#endif
