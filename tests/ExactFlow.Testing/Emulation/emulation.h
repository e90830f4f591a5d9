// A GPU played on the CPU, so that the project's CUDA C++ runs where there is none: put in front of a kernel source, which g++ then compiles unchanged.
//
// The threads of a block are fibers on one operating-system thread. A fiber runs until it has to wait for others (a barrier, a warp collective); the
// scheduler takes the next one. Nothing is preempted, so every run takes the same course. A block in which everybody waits is reported, never hangs.
//
// No standard headers: they would make up most of the time a small kernel takes to compile. Variables of the runtime lie in .data, because .bss holds
// exactly the __shared__ variables and is filled with NaN before every block.

#define EXACTFLOW_EMULATION 1
#define __device__
#define __host__
#define __constant__
#define __shared__ static
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __align__(bytes) __attribute__((aligned(bytes)))
#define DYNAMIC_SHARED(name) unsigned char* const name = emulation::dynamic_shared

// ------------------------------------------------------------------------------------------------------------------------------ vectors

struct uint3 { unsigned x, y, z; };
typedef uint3 dim3;

#define EMULATED_VECTORS(type, prefix, a1, a2, a4) \
    struct prefix##1 { type x; }; \
    struct __attribute__((aligned(a2))) prefix##2 { type x, y; }; \
    struct __attribute__((aligned(a4))) prefix##4 { type x, y, z, w; }; \
    inline prefix##2 make_##prefix##2(type x, type y) { return {x, y}; } \
    inline prefix##4 make_##prefix##4(type x, type y, type z, type w) { return {x, y, z, w}; }
EMULATED_VECTORS(float, float, 4, 8, 16)
EMULATED_VECTORS(int, int, 4, 8, 16)
EMULATED_VECTORS(unsigned, uint, 4, 8, 16)
EMULATED_VECTORS(short, short, 2, 4, 8)
EMULATED_VECTORS(unsigned short, ushort, 2, 4, 8)
EMULATED_VECTORS(signed char, char, 1, 2, 4)
EMULATED_VECTORS(unsigned char, uchar, 1, 2, 4)
EMULATED_VECTORS(double, double, 8, 16, 16)
EMULATED_VECTORS(long long, longlong, 8, 16, 16)
EMULATED_VECTORS(unsigned long long, ulonglong, 8, 16, 16)
struct float3 { float x, y, z; };
struct int3 { int x, y, z; };
inline float3 make_float3(float x, float y, float z) { return {x, y, z}; }
inline int3 make_int3(int x, int y, int z) { return {x, y, z}; }
inline uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }

// ------------------------------------------------------------------------------------------------------------------------------ the runtime

#define EMULATION_DATA static __attribute__((section(".data")))
EMULATION_DATA uint3 threadIdx, blockIdx, blockDim, gridDim;
constexpr int warpSize = 32;

extern "C" int snprintf(char*, unsigned long, const char*, ...);
extern "C" char __bss_start[] __attribute__((visibility("hidden")));
extern "C" char _end[] __attribute__((visibility("hidden")));
extern "C" __attribute__((visibility("hidden"))) void emulation_switch(void** save, void* load);

// Saves the registers that a call preserves, then continues where the other stack was left.
asm(R"(
    .text
    .hidden emulation_switch
    .globl emulation_switch
emulation_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");

namespace emulation
{
    constexpr unsigned FULL = 0xFFFFFFFFu;
    constexpr int THREADS = 1024, WARPS = 32;
    constexpr unsigned long long CANARY = 0x5AFE57AC4B0770Aull;

    enum State : int { UNBORN, READY, AT_BARRIER, AT_COLLECTIVE, DONE };
    enum Collective : int { SYNC, SHUFFLE, VOTE, REDUCE, LDMATRIX, MMA };

    struct Fiber { void* stack; unsigned char* base; State state; int line; };

    // The lanes that can go on, those that have come to the collective in progress, and what they brought: two sets in turn, because a lane may
    // already be in the next collective while others still read the last one's values.
    struct Warp
    {
        unsigned ready, unborn;
        int arrived, set, kind, line;
        unsigned long long values[2][32];
        void* pointers[4][32];
    };

    // What the host asks for; mirrored in EmulatedModule.cs.
    struct Launch
    {
        void (*kernel)(void**);
        void** arguments;
        int grid[3], block[3];
        int shared_bytes, shared_guard;
        long long first_block, last_block;
        unsigned char* shared;
        unsigned char* stacks;
        long long stack_bytes;
        char* problem;
        long long problem_bytes;
    };

    struct Kernel { const char* name; void (*run)(void**); int parameters, max_threads; const int* sizes; };

    EMULATION_DATA Fiber fibers[THREADS];
    EMULATION_DATA Warp warps[WARPS];
    EMULATION_DATA const Launch* launch;
    EMULATION_DATA unsigned char* dynamic_shared;
    EMULATION_DATA void* scheduler;
    EMULATION_DATA int current, threads, at_barrier, done, stacks_used;
    EMULATION_DATA bool failed;

    inline int lane() { return current & 31; }
    inline Warp& warp() { return warps[current >> 5]; }

    inline const char* name(int kind)
    {
        switch (kind)
        {
            case SYNC: return "__syncwarp";
            case SHUFFLE: return "a shuffle";
            case VOTE: return "a vote";
            case REDUCE: return "a reduction";
            case LDMATRIX: return "ldmatrix";
            default: return "mma";
        }
    }

    // Ends the launch with a message; the fibers of the block are abandoned where they stand.
    template <typename... A> [[noreturn]] __attribute__((noinline)) void fail(const char* format, A... values)
    {
        if (!failed)
        {
            failed = true;
            int written = snprintf(launch->problem, launch->problem_bytes, "block (%u, %u, %u), thread (%u, %u, %u): ", blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z);
            snprintf(launch->problem + written, launch->problem_bytes - written, format, values...);
        }

        void* abandoned;
        emulation_switch(&abandoned, scheduler);
        __builtin_unreachable();
    }

    inline void enter(int thread)
    {
        current = thread;
        unsigned plane = blockDim.x * blockDim.y, t = thread;
        threadIdx = {t % blockDim.x, t % plane / blockDim.x, t / plane};
    }

    // Goes on with another lane of this warp that can run, or else with the scheduler.
    inline __attribute__((noinline)) void yield(State state, int line)
    {
        int self = current;
        Warp& w = warps[self >> 5];
        Fiber& fiber = fibers[self];
        fiber.state = state;
        fiber.line = line;
        w.ready &= ~(1u << (self & 31));
        if (*(unsigned long long*)fiber.base != CANARY)
            fail("the thread used more than its %lld bytes of stack", launch->stack_bytes);
        if (w.ready)
        {
            int next = (self & ~31) + __builtin_ctz(w.ready);
            enter(next);
            emulation_switch(&fiber.stack, fibers[next].stack);
        }
        else
            emulation_switch(&fiber.stack, scheduler);
    }

    inline void barrier(int line)
    {
        at_barrier++;
        yield(AT_BARRIER, line);
    }

    // Comes to a collective of the warp; true for the lane that completes it, which then calls release(); the others have been waiting.
    inline bool complete(int kind, int line, unsigned mask)
    {
        if (mask != FULL)
            fail("line %d: %s of the lanes 0x%08x; only whole warps are emulated", line, name(kind), mask);
        Warp& w = warp();
        if (w.arrived == 0)
            w.kind = kind, w.line = line;
        else if (w.kind != kind || w.line != line)
            fail("line %d: the lane has come to %s while others of its warp wait at %s in line %d", line, name(kind), name(w.kind), w.line);
        if (++w.arrived == 32)
            return true;
        yield(AT_COLLECTIVE, line);
        return false;
    }

    inline void release()
    {
        Warp& w = warp();
        w.arrived = 0;
        w.set ^= 1;
        w.ready = FULL;
        for (int i = 0; i < 32; i++) fibers[(current & ~31) + i].state = READY;
    }

    inline unsigned long long* exchange(int kind, int line, unsigned mask, unsigned long long value)
    {
        Warp& w = warp();
        unsigned long long* values = w.values[w.set];
        values[lane()] = value;
        if (complete(kind, line, mask)) release();
        return values;
    }

    template <typename T> T shuffle(int line, unsigned mask, T value, int source)
    {
        static_assert(sizeof(T) <= 8, "shuffles move at most 8 bytes");
        unsigned long long bits = 0;
        __builtin_memcpy(&bits, &value, sizeof(T));
        unsigned long long* values = exchange(SHUFFLE, line, mask, bits);
        __builtin_memcpy(&value, &values[source], sizeof(T));
        return value;
    }

    template <typename T> T shuffle_index(int line, unsigned mask, T value, int source, int width = 32)
    {
        return shuffle(line, mask, value, (lane() & -width) | (source & (width - 1)));
    }
    template <typename T> T shuffle_xor(int line, unsigned mask, T value, int other, int width = 32)
    {
        int source = lane() ^ other;
        return shuffle(line, mask, value, (source & -width) > (lane() & -width) ? lane() : source);
    }
    template <typename T> T shuffle_down(int line, unsigned mask, T value, unsigned delta, int width = 32)
    {
        return shuffle(line, mask, value, (lane() & (width - 1)) + delta < (unsigned)width ? lane() + delta : lane());
    }
    template <typename T> T shuffle_up(int line, unsigned mask, T value, unsigned delta, int width = 32)
    {
        return shuffle(line, mask, value, (unsigned)(lane() & (width - 1)) >= delta ? lane() - delta : lane());
    }
    inline unsigned ballot(int line, unsigned mask, bool predicate)
    {
        unsigned long long* values = exchange(VOTE, line, mask, predicate);
        unsigned votes = 0;
        for (int i = 0; i < 32; i++) votes |= (unsigned)values[i] << i;
        return votes;
    }
    template <typename T, typename F> T reduce(int line, unsigned mask, T value, F join)
    {
        unsigned long long bits = 0;
        __builtin_memcpy(&bits, &value, sizeof(T));
        unsigned long long* values = exchange(REDUCE, line, mask, bits);
        __builtin_memcpy(&value, &values[0], sizeof(T));
        for (int i = 1; i < 32; i++)
        {
            T next;
            __builtin_memcpy(&next, &values[i], sizeof(T));
            value = join(value, next);
        }
        return value;
    }
    inline void sync_warp(int line, unsigned mask = FULL)
    {
        if (complete(SYNC, line, mask)) release();
    }

    // Everyone waits and nobody can go on: says who waits where.
    inline void report_deadlock()
    {
        int first_line = 0, second_line = 0, collectives = 0, lanes_done = 0, waiting = -1;
        for (int t = 0; t < threads; t++)
        {
            if (fibers[t].state == AT_BARRIER)
            {
                if (first_line == 0) first_line = fibers[t].line;
                else if (fibers[t].line != first_line) second_line = fibers[t].line;
            }
            else if (fibers[t].state == AT_COLLECTIVE)
            {
                if (waiting < 0) waiting = t;
                collectives++;
            }
        }

        char* text = launch->problem;
        long long size = launch->problem_bytes;
        failed = true;
        if (collectives > 0)
        {
            Warp& w = warps[waiting >> 5];
            for (int i = 0; i < 32; i++) lanes_done += fibers[(waiting & ~31) + i].state == DONE;
            snprintf(text, size, "block (%u, %u, %u): deadlock: %d lanes of warp %d wait at %s in line %d, which the other lanes never reach (%d have left the kernel, the rest wait at a barrier)",
                blockIdx.x, blockIdx.y, blockIdx.z, w.arrived, waiting >> 5, name(w.kind), w.line, lanes_done);
        }
        else
            snprintf(text, size, "block (%u, %u, %u): deadlock: %d of %d threads wait at the barrier in line %d, the others have left the kernel",
                blockIdx.x, blockIdx.y, blockIdx.z, at_barrier, threads, first_line);
    }

    // Whether everyone stands at the same barrier. Hardware counts arrivals only, but the language demands one barrier for all.
    inline bool same_barrier()
    {
        for (int t = 1; t < threads; t++)
            if (fibers[t].line != fibers[0].line)
            {
                failed = true;
                snprintf(launch->problem, launch->problem_bytes, "block (%u, %u, %u): thread %d waits at the barrier in line %d while thread 0 waits at the one in line %d",
                    blockIdx.x, blockIdx.y, blockIdx.z, t, fibers[t].line, fibers[0].line);
                return false;
            }
        return true;
    }

    inline void fiber_main()
    {
        launch->kernel(launch->arguments);
        Fiber& fiber = fibers[current];
        if (*(unsigned long long*)fiber.base != CANARY)
            fail("the thread used more than its %lld bytes of stack", launch->stack_bytes);
        fiber.state = DONE;
        done++;
        warp().ready &= ~(1u << lane());
        emulation_switch(&fiber.stack, scheduler);
        __builtin_unreachable();
    }

    // Starts a thread on a stack. Tops are staggered: stacks a power of two apart would share a few lines of the cache.
    inline void start(int thread, int stack)
    {
        Fiber& fiber = fibers[thread];
        unsigned char* base = launch->stacks + stack * launch->stack_bytes;
        void** top = (void**)(base + launch->stack_bytes - (stack & 31) * 192 - 64);
        *(unsigned long long*)base = CANARY;
        top[-1] = nullptr;
        top[-2] = (void*)&fiber_main;
        for (int i = 3; i <= 8; i++) top[-i] = nullptr;
        fiber.base = base;
        fiber.stack = top - 8;
        fiber.state = READY;
        enter(thread);
        Warp& w = warp();
        w.unborn &= w.unborn - 1;
        w.ready |= 1u << lane();
        emulation_switch(&scheduler, fiber.stack);
        // A thread that is through without having waited leaves its stack to the next.
        if (fiber.state != DONE) stacks_used++;
    }

    inline void run_warp(int index)
    {
        Warp& w = warps[index];
        while (!failed)
        {
            if (w.ready)
            {
                int thread = index * 32 + __builtin_ctz(w.ready);
                enter(thread);
                emulation_switch(&scheduler, fibers[thread].stack);
            }
            else if (w.unborn)
                start(index * 32 + __builtin_ctz(w.unborn), stacks_used);
            else
                return;
        }
    }

    inline void run_block()
    {
        int warp_count = threads / 32;
        at_barrier = done = stacks_used = 0;
        for (int t = 0; t < threads; t++) fibers[t].state = UNBORN;
        for (int i = 0; i < warp_count; i++)
        {
            warps[i].ready = 0;
            warps[i].unborn = FULL;
            warps[i].arrived = warps[i].set = 0;
        }
        __builtin_memset(__bss_start, 0xFF, _end - __bss_start);
        __builtin_memset(dynamic_shared, 0xFF, launch->shared_bytes + launch->shared_guard);
        while (!failed)
        {
            for (int i = 0; i < warp_count && !failed; i++) run_warp(i);
            if (failed || done == threads) break;
            if (at_barrier != threads) { report_deadlock(); break; }
            if (!same_barrier()) break;
            at_barrier = 0;
            for (int i = 0; i < warp_count; i++) warps[i].ready = FULL;
            for (int t = 0; t < threads; t++) fibers[t].state = READY;
        }
        for (int i = 0; i < launch->shared_guard && !failed; i++)
            if (dynamic_shared[launch->shared_bytes + i] != 0xFF)
            {
                failed = true;
                snprintf(launch->problem, launch->problem_bytes, "block (%u, %u, %u): the kernel wrote %d bytes past the end of its %d bytes of dynamic shared memory",
                    blockIdx.x, blockIdx.y, blockIdx.z, i + 1, launch->shared_bytes);
            }
    }

    template <int... I> struct Indices {};
    template <auto F, typename T> struct Entry;
    template <auto F, typename... P> struct Entry<F, void (*)(P...)>
    {
        static constexpr int count = sizeof...(P);
        static constexpr int sizes[] = {(int)sizeof(P)..., 0};
        template <int... I> static void call(void** a, Indices<I...>) { F(*(P*)a[I]...); }
        static void run(void** a) { call(a, Indices<__integer_pack(sizeof...(P))...>{}); }
    };
    template <auto F> constexpr Kernel kernel(const char* name, int max_threads)
    {
        using E = Entry<F, decltype(F)>;
        return {name, &E::run, E::count, max_threads, E::sizes};
    }
}

// Runs some blocks of a launch; 0, or 1 with the problem written out.
extern "C" __attribute__((visibility("default"))) int emulation_run(const emulation::Launch* launch)
{
    using namespace emulation;
    emulation::launch = launch;
    dynamic_shared = launch->shared;
    failed = false;
    blockDim = {(unsigned)launch->block[0], (unsigned)launch->block[1], (unsigned)launch->block[2]};
    gridDim = {(unsigned)launch->grid[0], (unsigned)launch->grid[1], (unsigned)launch->grid[2]};
    threads = launch->block[0] * launch->block[1] * launch->block[2];
    long long plane = (long long)gridDim.x * gridDim.y;
    for (long long b = launch->first_block; b < launch->last_block && !failed; b++)
    {
        blockIdx = {(unsigned)(b % gridDim.x), (unsigned)(b % plane / gridDim.x), (unsigned)(b / plane)};
        run_block();
    }
    return failed;
}

// What -fsanitize=alignment,bounds calls: a vector access off its alignment faults on a GPU, and so does it here.
extern "C"
{
    struct EmulationPlace { const char* file; unsigned line, column; };
    inline __attribute__((used, visibility("hidden"))) void __ubsan_handle_type_mismatch_v1(EmulationPlace* place, void* pointer)
    {
        emulation::fail("%s, line %u: misaligned access at %p", place->file, place->line, pointer);
    }
    inline __attribute__((used, visibility("hidden"))) void __ubsan_handle_out_of_bounds(EmulationPlace* place, void* index)
    {
        emulation::fail("%s, line %u: index %lld is outside the array", place->file, place->line, (long long)index);
    }
}

// ------------------------------------------------------------------------------------------------------------------------------ barriers and warps

#define __syncthreads() emulation::barrier(__LINE__)
#define __syncwarp(...) emulation::sync_warp(__LINE__ __VA_OPT__(,) __VA_ARGS__)
#define __shfl_sync(...) emulation::shuffle_index(__LINE__, __VA_ARGS__)
#define __shfl_xor_sync(...) emulation::shuffle_xor(__LINE__, __VA_ARGS__)
#define __shfl_down_sync(...) emulation::shuffle_down(__LINE__, __VA_ARGS__)
#define __shfl_up_sync(...) emulation::shuffle_up(__LINE__, __VA_ARGS__)
#define __ballot_sync(mask, predicate) emulation::ballot(__LINE__, mask, (predicate) != 0)
#define __any_sync(mask, predicate) (emulation::ballot(__LINE__, mask, (predicate) != 0) != 0)
#define __all_sync(mask, predicate) (emulation::ballot(__LINE__, mask, (predicate) != 0) == emulation::FULL)
#define __reduce_add_sync(mask, value) emulation::reduce(__LINE__, mask, value, [](auto a, auto b) { return a + b; })
#define __reduce_min_sync(mask, value) emulation::reduce(__LINE__, mask, value, [](auto a, auto b) { return b < a ? b : a; })
#define __reduce_max_sync(mask, value) emulation::reduce(__LINE__, mask, value, [](auto a, auto b) { return a < b ? b : a; })
#define __reduce_and_sync(mask, value) emulation::reduce(__LINE__, mask, value, [](auto a, auto b) { return a & b; })
#define __reduce_or_sync(mask, value) emulation::reduce(__LINE__, mask, value, [](auto a, auto b) { return a | b; })
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
    inline type atomicAdd(type* p, type value) { return __atomic_fetch_add(p, value, __ATOMIC_RELAXED); } \
    inline type atomicSub(type* p, type value) { return __atomic_fetch_sub(p, value, __ATOMIC_RELAXED); } \
    inline type atomicExch(type* p, type value) { return __atomic_exchange_n(p, value, __ATOMIC_RELAXED); } \
    inline type atomicOr(type* p, type value) { return __atomic_fetch_or(p, value, __ATOMIC_RELAXED); } \
    inline type atomicAnd(type* p, type value) { return __atomic_fetch_and(p, value, __ATOMIC_RELAXED); } \
    inline type atomicCAS(type* p, type expected, type value) \
    { \
        __atomic_compare_exchange_n(p, &expected, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED); \
        return expected; \
    } \
    inline type atomicMax(type* p, type value) \
    { \
        type old = *p; \
        while (old < value && !__atomic_compare_exchange_n(p, &old, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {} \
        return old; \
    } \
    inline type atomicMin(type* p, type value) \
    { \
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
    inline void load_matrices(int line, unsigned (&r)[4], const void* row, bool transposed)
    {
        Warp& w = warp();
        if ((unsigned long long)row % 16 != 0) fail("line %d: ldmatrix of a row that is not aligned to 16 bytes", line);
        w.pointers[0][lane()] = (void*)row;
        w.pointers[1][lane()] = r;
        if (!complete(LDMATRIX, line, FULL)) return;
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
    inline void multiply_bf16(int line, float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1)
    {
        Warp& w = warp();
        unsigned b[2] = {b0, b1};
        w.pointers[0][lane()] = d;
        w.pointers[1][lane()] = (void*)a;
        w.pointers[2][lane()] = b;
        if (!complete(MMA, line, FULL)) return;
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
    inline void multiply_tf32(int line, float (&d)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1)
    {
        Warp& w = warp();
        float operands[6] = {__uint_as_float(a0), __uint_as_float(a1), __uint_as_float(a2), __uint_as_float(a3), __uint_as_float(b0), __uint_as_float(b1)};
        w.pointers[0][lane()] = d;
        w.pointers[1][lane()] = operands;
        if (!complete(MMA, line, FULL)) return;
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
}

inline unsigned pack(float lo, float hi) { return emulation::round_bf16(lo) | emulation::round_bf16(hi) << 16; }
inline unsigned smem_u32(const void* p) { return (unsigned)((const unsigned char*)p - emulation::dynamic_shared); }
#define ldm4(...) emulation::load_matrices(__LINE__, __VA_ARGS__, false)
#define ldm4t(...) emulation::load_matrices(__LINE__, __VA_ARGS__, true)
#define mma(...) emulation::multiply_bf16(__LINE__, __VA_ARGS__)
#define mma_tf32(...) emulation::multiply_tf32(__LINE__, __VA_ARGS__)
// Rounded to nearest, ties away from zero, to ten bits of mantissa.
inline unsigned tf32(float x) { unsigned bits = __float_as_uint(x); return __builtin_isfinite(x) ? (bits + 0x1000u) & ~0x1FFFu : bits; }

inline void cp16(void* to, const void* from, bool valid)
{
    if ((unsigned long long)to % 16 != 0 || (valid && (unsigned long long)from % 16 != 0)) emulation::fail("cp.async between addresses that are not aligned to 16 bytes");
    if (valid) __builtin_memcpy(to, from, 16); else __builtin_memset(to, 0, 16);
}
inline void cp_commit() {}
template <int N> inline void cp_wait() {}
