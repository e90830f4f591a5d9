// What the language and its library bring, after emulation.h: barriers and warps, numbers, memory, and what is PTX on a GPU.

// ------------------------------------------------------------------------------------------------------------------------------ barriers and warps

#define __syncthreads() emulation::barrier(EMULATION_HERE)
#define __syncwarp(...) emulation::sync_warp(EMULATION_HERE __VA_OPT__(,) __VA_ARGS__)
#define __shfl_sync(...) emulation::shuffle_index(EMULATION_HERE, __VA_ARGS__)
#define __shfl_xor_sync(...) emulation::shuffle_xor(EMULATION_HERE, __VA_ARGS__)
#define __shfl_down_sync(...) emulation::shuffle_down(EMULATION_HERE, __VA_ARGS__)
#define __shfl_up_sync(...) emulation::shuffle_up(EMULATION_HERE, __VA_ARGS__)
#define __ballot_sync(mask, predicate) emulation::ballot(EMULATION_HERE, mask, (predicate) != 0)
#define __any_sync(mask, predicate) (emulation::ballot(EMULATION_HERE, mask, (predicate) != 0) != 0)
#define __all_sync(mask, predicate) (emulation::ballot(EMULATION_HERE, mask, (predicate) != 0) == emulation::FULL)
#define __reduce_add_sync(mask, value) emulation::reduce(EMULATION_HERE, mask, value, [](auto a, auto b) { return a + b; })
#define __reduce_min_sync(mask, value) emulation::reduce(EMULATION_HERE, mask, value, [](auto a, auto b) { return b < a ? b : a; })
#define __reduce_max_sync(mask, value) emulation::reduce(EMULATION_HERE, mask, value, [](auto a, auto b) { return a < b ? b : a; })
#define __reduce_and_sync(mask, value) emulation::reduce(EMULATION_HERE, mask, value, [](auto a, auto b) { return a & b; })
#define __reduce_or_sync(mask, value) emulation::reduce(EMULATION_HERE, mask, value, [](auto a, auto b) { return a | b; })
#define __syncthreads_or(predicate) emulation_syncthreads_vote_is_not_emulated
inline void __threadfence() {}
inline void __threadfence_block() {}

// ------------------------------------------------------------------------------------------------------------------------------ numbers

inline float __uint_as_float(unsigned bits) { float x; __builtin_memcpy(&x, &bits, 4); return x; }
inline float __int_as_float(int bits) { float x; __builtin_memcpy(&x, &bits, 4); return x; }
inline unsigned __float_as_uint(float x) { unsigned bits; __builtin_memcpy(&bits, &x, 4); return bits; }
inline int __float_as_int(float x) { int bits; __builtin_memcpy(&bits, &x, 4); return bits; }
inline double __longlong_as_double(long long bits) { double x; __builtin_memcpy(&x, &bits, 8); return x; }
inline long long __double_as_longlong(double x) { long long bits; __builtin_memcpy(&bits, &x, 8); return bits; }

extern "C"
{
    float expf(float); float exp2f(float); float expm1f(float); float logf(float); float log2f(float); float log1pf(float); float log10f(float);
    float sqrtf(float); float cbrtf(float); float powf(float, float); float tanhf(float); float sinhf(float); float coshf(float);
    float sinf(float); float cosf(float); float tanf(float); float atanf(float); float atan2f(float, float); float erff(float); float erfcf(float);
    float fabsf(float); float floorf(float); float ceilf(float); float rintf(float); float roundf(float); float truncf(float); float nearbyintf(float);
    float fmaf(float, float, float); float fmaxf(float, float); float fminf(float, float); float fmodf(float, float); float copysignf(float, float);
    float ldexpf(float, int); float scalbnf(float, int); void sincosf(float, float*, float*);
    double exp(double); double exp2(double); double expm1(double); double log(double); double log2(double); double log1p(double); double sqrt(double);
    double pow(double, double); double tanh(double); double sin(double); double cos(double); double erf(double); double fabs(double); double floor(double);
    double ceil(double); double rint(double); double fma(double, double, double); double fmax(double, double); double fmin(double, double);
    int abs(int);
}
inline float exp(float x) { return expf(x); }
inline float exp2(float x) { return exp2f(x); }
inline float expm1(float x) { return expm1f(x); }
inline float log(float x) { return logf(x); }
inline float log2(float x) { return log2f(x); }
inline float log1p(float x) { return log1pf(x); }
inline float sqrt(float x) { return sqrtf(x); }
inline float pow(float x, float y) { return powf(x, y); }
inline float tanh(float x) { return tanhf(x); }
inline float floor(float x) { return floorf(x); }
inline float ceil(float x) { return ceilf(x); }
inline float fabs(float x) { return fabsf(x); }
inline float abs(float x) { return fabsf(x); }
inline float rsqrtf(float x) { return 1.f / sqrtf(x); }
inline float rsqrt(float x) { return 1.f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }

inline bool isnan(float x) { return __builtin_isnan(x); }
inline bool isnan(double x) { return __builtin_isnan(x); }
inline bool isinf(float x) { return __builtin_isinf(x); }
inline bool isinf(double x) { return __builtin_isinf(x); }
inline bool isfinite(float x) { return __builtin_isfinite(x); }
inline bool isfinite(double x) { return __builtin_isfinite(x); }
inline bool signbit(float x) { return __builtin_signbit(x); }

// The fast functions go through base 2 as the hardware's do, with its loss for large arguments.
inline float __expf(float x) { return exp2f(x * 1.44269504f); }
inline float __exp10f(float x) { return exp2f(x * 3.32192809f); }
inline float __logf(float x) { return log2f(x) * 0.69314718f; }
inline float __log2f(float x) { return log2f(x); }
inline float __log10f(float x) { return log2f(x) * 0.30103000f; }
inline float __powf(float x, float y) { return exp2f(y * log2f(x)); }
inline float __fdividef(float x, float y) { return fabsf(y) > 8.507059e37f ? (__builtin_isinf(x) ? __builtin_nanf("") : x * 0.f) : x / y; }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline void __sincosf(float x, float* s, float* c) { sincosf(x, s, c); }
inline void sincospif(float x, float* s, float* c)
{
    double angle = 3.14159265358979324 * (x - 2.0 * rint(0.5 * x));
    *s = (float)sin(angle);
    *c = (float)cos(angle);
}
inline float __saturatef(float x) { return x > 0.f ? x < 1.f ? x : 1.f : 0.f; }
inline float __frcp_rn(float x) { return 1.f / x; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __frsqrt_rn(float x) { return (float)(1.0 / sqrt((double)x)); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline int __float2int_rn(float x) { return (int)rintf(x); }
inline int __float2int_rz(float x) { return (int)x; }
inline int __float2int_rd(float x) { return (int)floorf(x); }
inline int __float2int_ru(float x) { return (int)ceilf(x); }
inline unsigned __float2uint_rn(float x) { return (unsigned)rintf(x); }
inline unsigned __float2uint_rz(float x) { return (unsigned)x; }
inline float __int2float_rn(int x) { return (float)x; }
inline float __uint2float_rn(unsigned x) { return (float)x; }
inline float __double2float_rn(double x) { return (float)x; }

// The overloads that CUDA has, and no others: what is ambiguous there is ambiguous here.
#define EMULATED_MIN_MAX(type) \
    inline type min(type a, type b) { return b < a ? b : a; } \
    inline type max(type a, type b) { return a < b ? b : a; }
EMULATED_MIN_MAX(int)
EMULATED_MIN_MAX(unsigned)
EMULATED_MIN_MAX(long)
EMULATED_MIN_MAX(unsigned long)
EMULATED_MIN_MAX(long long)
EMULATED_MIN_MAX(unsigned long long)
inline unsigned min(int a, unsigned b) { return min((unsigned)a, b); }
inline unsigned min(unsigned a, int b) { return min(a, (unsigned)b); }
inline unsigned max(int a, unsigned b) { return max((unsigned)a, b); }
inline unsigned max(unsigned a, int b) { return max(a, (unsigned)b); }
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz((unsigned)x); }
inline int __clzll(long long x) { return x == 0 ? 64 : __builtin_clzll((unsigned long long)x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __brev(unsigned x)
{
    x = __builtin_bswap32(x);
    x = (x & 0x0F0F0F0Fu) << 4 | (x >> 4 & 0x0F0F0F0Fu);
    x = (x & 0x33333333u) << 2 | (x >> 2 & 0x33333333u);
    return (x & 0x55555555u) << 1 | (x >> 1 & 0x55555555u);
}
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((unsigned long long)a * b >> 32); }
inline int __mulhi(int a, int b) { return (int)((long long)a * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) { return (unsigned long long)((unsigned __int128)a * b >> 64); }

// ------------------------------------------------------------------------------------------------------------------------------ memory

template <typename T> T __ldg(const T* p) { return *p; }
template <typename T> T __ldcg(const T* p) { return *p; }
template <typename T> T __ldca(const T* p) { return *p; }
template <typename T> T __ldcs(const T* p) { return *p; }
template <typename T> T __ldcv(const T* p) { return *p; }
template <typename T> void __stcg(T* p, T value) { *p = value; }
template <typename T> void __stcs(T* p, T value) { *p = value; }
template <typename T> void __stwb(T* p, T value) { *p = value; }
template <typename T> void __stwt(T* p, T value) { *p = value; }

// Integers only: sums of floats in the order of arrival would differ from run to run.
#define EMULATED_ATOMICS(type) \
    EMULATION_RUNTIME inline type atomicAdd(type* p, type value) { emulation::atomic(p, sizeof(type)); return __atomic_fetch_add(p, value, __ATOMIC_RELAXED); } \
    EMULATION_RUNTIME inline type atomicSub(type* p, type value) { emulation::atomic(p, sizeof(type)); return __atomic_fetch_sub(p, value, __ATOMIC_RELAXED); } \
    EMULATION_RUNTIME inline type atomicExch(type* p, type value) { emulation::atomic(p, sizeof(type)); return __atomic_exchange_n(p, value, __ATOMIC_RELAXED); } \
    EMULATION_RUNTIME inline type atomicOr(type* p, type value) { emulation::atomic(p, sizeof(type)); return __atomic_fetch_or(p, value, __ATOMIC_RELAXED); } \
    EMULATION_RUNTIME inline type atomicAnd(type* p, type value) { emulation::atomic(p, sizeof(type)); return __atomic_fetch_and(p, value, __ATOMIC_RELAXED); } \
    EMULATION_RUNTIME inline type atomicCAS(type* p, type expected, type value) \
    { \
        emulation::atomic(p, sizeof(type)); \
        __atomic_compare_exchange_n(p, &expected, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED); \
        return expected; \
    } \
    EMULATION_RUNTIME inline type atomicMax(type* p, type value) \
    { \
        emulation::atomic(p, sizeof(type)); \
        type old = *p; \
        while (old < value && !__atomic_compare_exchange_n(p, &old, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {} \
        return old; \
    } \
    EMULATION_RUNTIME inline type atomicMin(type* p, type value) \
    { \
        emulation::atomic(p, sizeof(type)); \
        type old = *p; \
        while (value < old && !__atomic_compare_exchange_n(p, &old, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {} \
        return old; \
    }
EMULATED_ATOMICS(int)
EMULATED_ATOMICS(unsigned)
EMULATED_ATOMICS(unsigned long long)

// ------------------------------------------------------------------------------------------------------------------------------ what is PTX on a GPU

namespace emulation
{
    inline unsigned round_bf16(float x)
    {
        unsigned bits = __float_as_uint(x);
        return __builtin_isnan(x) ? 0x7FFFu : (bits + 0x7FFFu + (bits >> 16 & 1)) >> 16;
    }
    inline float from_bf16(unsigned bits) { return __uint_as_float(bits << 16); }

    // Four 8 x 8 matrices: lane i brings the address of row i % 8 of matrix i / 8 and takes elements (i / 4, 2 (i % 4) + {0, 1}) of each, or their transposes.
    EMULATION_RUNTIME inline void load_matrices(const char* place, unsigned (&r)[4], const void* row, bool transposed)
    {
        Warp& w = warp();
        if ((unsigned long long)row % 16 != 0) fail("%s: ldmatrix of a row that is not aligned to 16 bytes", place);
        read(row, 16, __builtin_return_address(0));
        w.pointers[0][lane()] = (void*)row;
        w.pointers[1][lane()] = r;
        if (!complete(LDMATRIX, place, FULL)) return;
        for (int i = 0; i < 32; i++)
            for (int m = 0; m < 4; m++)
            {
                unsigned short lo, hi;
                int a = i / 4, b = i % 4 * 2;
                if (transposed)
                    lo = ((unsigned short*)w.pointers[0][m * 8 + b])[a], hi = ((unsigned short*)w.pointers[0][m * 8 + b + 1])[a];
                else
                    lo = ((unsigned short*)w.pointers[0][m * 8 + a])[b], hi = ((unsigned short*)w.pointers[0][m * 8 + a])[b + 1];
                ((unsigned*)w.pointers[1][i])[m] = lo | (unsigned)hi << 16;
            }
        release();
    }

    // d[16 x 8] += a[16 x 16] b[16 x 8] in bfloat16; each lane brings its four, four and two registers.
    EMULATION_RUNTIME inline void multiply_bf16(const char* place, float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1)
    {
        Warp& w = warp();
        unsigned b[2] = {b0, b1};
        w.pointers[0][lane()] = d;
        w.pointers[1][lane()] = (void*)a;
        w.pointers[2][lane()] = b;
        if (!complete(MMA, place, FULL)) return;
        float left[16][16], right[16][8];
        for (int i = 0; i < 32; i++)
        {
            int g = i / 4, t = i % 4 * 2;
            const unsigned* pa = (const unsigned*)w.pointers[1][i];
            const unsigned* pb = (const unsigned*)w.pointers[2][i];
            for (int h = 0; h < 2; h++)
            {
                unsigned shift = h * 16;
                left[g][t + h] = from_bf16(pa[0] >> shift & 0xFFFF);
                left[g + 8][t + h] = from_bf16(pa[1] >> shift & 0xFFFF);
                left[g][t + 8 + h] = from_bf16(pa[2] >> shift & 0xFFFF);
                left[g + 8][t + 8 + h] = from_bf16(pa[3] >> shift & 0xFFFF);
                right[t + h][g] = from_bf16(pb[0] >> shift & 0xFFFF);
                right[t + 8 + h][g] = from_bf16(pb[1] >> shift & 0xFFFF);
            }
        }
        for (int i = 0; i < 32; i++)
        {
            float* out = (float*)w.pointers[0][i];
            for (int j = 0; j < 4; j++)
            {
                int row = i / 4 + (j >> 1) * 8, column = i % 4 * 2 + (j & 1);
                float sum = 0.f;
                for (int k = 0; k < 16; k++) sum += left[row][k] * right[k][column];
                out[j] += sum;
            }
        }
        release();
    }

    // d[16 x 8] += a[16 x 8] b[8 x 8] in tf32.
    EMULATION_RUNTIME inline void multiply_tf32(const char* place, float (&d)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1)
    {
        Warp& w = warp();
        float operands[6] = {__uint_as_float(a0), __uint_as_float(a1), __uint_as_float(a2), __uint_as_float(a3), __uint_as_float(b0), __uint_as_float(b1)};
        w.pointers[0][lane()] = d;
        w.pointers[1][lane()] = operands;
        if (!complete(MMA, place, FULL)) return;
        float left[16][8], right[8][8];
        for (int i = 0; i < 32; i++)
        {
            int g = i / 4, t = i % 4;
            const float* p = (const float*)w.pointers[1][i];
            left[g][t] = p[0], left[g + 8][t] = p[1], left[g][t + 4] = p[2], left[g + 8][t + 4] = p[3];
            right[t][g] = p[4], right[t + 4][g] = p[5];
        }
        for (int i = 0; i < 32; i++)
        {
            float* out = (float*)w.pointers[0][i];
            for (int j = 0; j < 4; j++)
            {
                int row = i / 4 + (j >> 1) * 8, column = i % 4 * 2 + (j & 1);
                float sum = 0.f;
                for (int k = 0; k < 8; k++) sum += left[row][k] * right[k][column];
                out[j] += sum;
            }
        }
        release();
    }

    // One element of a tile of 64 columns in shared memory: rows of 128 bytes, whose pieces of 16 bytes are permuted by the row's number.
    inline unsigned short* tile_element(unsigned long long tile, int row, int column)
    {
        unsigned long long at = ((tile & 0x3FFF) << 4) + row * 128 + column * 2;
        return (unsigned short*)(dynamic_shared + (at ^ (at >> 3 & 0x70)));
    }

    // d[64 x 64] += a[64 x 16] b[16 x 64] in bfloat16, a warp's 16 rows; the tiles as `wgmma` takes them, plain or transposed. The product is made at once, not at the wait for it.
    template <bool TRANSPOSED_LEFT, bool TRANSPOSED_RIGHT> EMULATION_RUNTIME void multiply_tiles(float (&d)[32], unsigned long long a, unsigned long long b)
    {
        Warp& w = warp();
        w.pointers[0][lane()] = d;
        if (!complete(MMA, "wgmma", FULL)) return;
        float left[16][16], right[16][64];
        int row0 = (current >> 5) % 4 * 16;
        void* site = __builtin_return_address(0);
        for (int k = 0; k < 16; k++)
        {
            for (int i = 0; i < 16; i++)
            {
                unsigned short* element = TRANSPOSED_LEFT ? tile_element(a, k, row0 + i) : tile_element(a, row0 + i, k);
                if ((TRANSPOSED_LEFT ? i : k) % 8 == 0) access(element, 16, false, site);
                left[i][k] = from_bf16(*element);
            }
            for (int j = 0; j < 64; j++)
            {
                unsigned short* element = TRANSPOSED_RIGHT ? tile_element(b, k, j) : tile_element(b, j, k);
                if ((TRANSPOSED_RIGHT ? j : k) % 8 == 0) access(element, 16, false, site);
                right[k][j] = from_bf16(*element);
            }
        }
        for (int i = 0; i < 32; i++)
        {
            float* out = (float*)w.pointers[0][i];
            for (int e = 0; e < 32; e++)
            {
                int row = i / 4 + (e >> 1 & 1) * 8, column = (e >> 2) * 8 + i % 4 * 2 + (e & 1);
                float sum = 0.f;
                for (int k = 0; k < 16; k++) sum += left[row][k] * right[k][column];
                out[e] += sum;
            }
        }
        release();
    }
}

inline float exp2_approximate(float x) { float r = exp2f(x); return r < 1.17549435e-38f ? 0.f : r; }
inline float reciprocal_approximate(float x) { float r = 1.f / x; return fabsf(r) < 1.17549435e-38f ? 0.f : r; }
inline unsigned pack(float lo, float hi) { return emulation::round_bf16(lo) | emulation::round_bf16(hi) << 16; }
inline unsigned smem_u32(const void* p) { return (unsigned)((const unsigned char*)p - emulation::dynamic_shared); }
#define ldm4(...) emulation::load_matrices(EMULATION_HERE, __VA_ARGS__, false)
#define ldm4t(...) emulation::load_matrices(EMULATION_HERE, __VA_ARGS__, true)
#define mma(...) emulation::multiply_bf16(EMULATION_HERE, __VA_ARGS__)
#define mma_tf32(...) emulation::multiply_tf32(EMULATION_HERE, __VA_ARGS__)
// Rounded to nearest, ties away from zero, to ten bits of mantissa.
inline unsigned tf32(float x) { unsigned bits = __float_as_uint(x); return __builtin_isfinite(x) ? (bits + 0x1000u) & ~0x1FFFu : bits; }


inline unsigned long long desc(const void* tile) { return smem_u32(tile) >> 4; }
template <int TA, int TB> inline void wgmma64(float (&d)[32], unsigned long long a, unsigned long long b) { emulation::multiply_tiles<TA != 0, TB != 0>(d, a, b); }
template <int NUMBER> inline void bar(int threads) { emulation::named_barrier(NUMBER, threads); }
inline void wg_fence() {}
inline void wg_commit() {}
template <int N> inline void wg_wait() {}
inline void proxy_fence() {}
template <int N> inline void raise_registers() {}
template <int N> inline void lower_registers() {}

// The copy takes place at the wait that covers it: whoever reads earlier finds what was there before.
EMULATION_RUNTIME inline void cp16(void* to, const void* from, bool valid)
{
    if ((unsigned long long)to % 16 != 0 || (valid && (unsigned long long)from % 16 != 0)) emulation::fail("cp.async between addresses that are not aligned to 16 bytes");
    emulation::begin_copy(to, from, valid, __builtin_return_address(0));
}
EMULATION_RUNTIME inline void cp_commit() { emulation::fibers[emulation::current].committed++; }
template <int N> EMULATION_RUNTIME inline void cp_wait() { emulation::complete_copies(emulation::fibers[emulation::current].committed - N); }
