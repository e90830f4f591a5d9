// A GPU played on the CPU, so that the project's CUDA C++ runs where there is none: put in front of a kernel source, which g++ then compiles unchanged.
//
// The threads of a block are fibers on one operating-system thread. A fiber runs until it has to wait for others (a barrier, a warp collective); the
// scheduler takes the next one. Nothing is preempted, so every run takes the same course. A block in which everybody waits is reported, never hangs.
//
// No standard headers: they would make up most of the time a small kernel takes to compile. Variables of the runtime lie in .data, because .bss holds
// exactly the __shared__ variables and is filled with NaN before every block. emulation_checks.h and emulation_language.h follow.

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
#define EMULATION_TEXT_OF(x) #x
#define EMULATION_TEXT(x) EMULATION_TEXT_OF(x)
#define EMULATION_HERE __FILE__ " line " EMULATION_TEXT(__LINE__)
// What belongs to the runtime: its own accesses are not checked.
#define EMULATION_RUNTIME __attribute__((no_sanitize("thread", "alignment", "bounds")))

// To a thread they never change, so kernels see them as constants, which need no checks; the runtime sets the same memory whenever it takes another thread.
#define EMULATION_COORDINATES(name, variable) \
    extern const uint3 name __asm__("emulation_" #variable) __attribute__((visibility("hidden"))); \
    uint3 variable __asm__("emulation_" #variable) __attribute__((section(".data"), visibility("hidden")));
EMULATION_COORDINATES(threadIdx, thread_index)
EMULATION_COORDINATES(blockIdx, block_index)
EMULATION_COORDINATES(blockDim, block_extent)
EMULATION_COORDINATES(gridDim, grid_extent)
constexpr int warpSize = 32;

extern "C" int snprintf(char*, unsigned long, const char*, ...);
extern "C" int strcmp(const char*, const char*);
extern "C" char __bss_start[] __attribute__((visibility("hidden")));
extern "C" char _end[] __attribute__((visibility("hidden")));
extern "C" char __ehdr_start[] __attribute__((visibility("hidden")));
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

    enum State : int { UNBORN, READY, AT_BARRIER, AT_COLLECTIVE, AT_NAMED_BARRIER, DONE };
    enum Collective : int { SYNC, SHUFFLE, VOTE, REDUCE, LDMATRIX, MMA };

    // A copy of cp.async that is still under way.
    struct Copy { void* to; const void* from; int group; bool valid; };

    struct Fiber { void* stack; unsigned char* base; State state; const char* place; int copies, committed, named; };

    // A barrier that only some threads take part in, by its number.
    struct NamedBarrier { int arrived, expected; };

    // The lanes that can go on, those that have come to the collective in progress, and what they brought: two sets in turn, because a lane may
    // already be in the next collective while others still read the last one's values.
    struct Warp
    {
        unsigned ready, unborn;
        int arrived, set, kind;
        unsigned syncs;
        const char* place;
        unsigned long long values[2][32];
        void* pointers[4][32];
    };

    struct Shadow;

    // A block of device memory, with what the checks know about it.
    struct Block { unsigned long long start, end; Shadow* shadow; };

    // What the host asks for; mirrored in EmulatedModule.cs.
    struct Launch
    {
        void (*kernel)(void**);
        void** arguments;
        int grid[3], block[3];
        int shared_bytes, shared_guard;
        long long first_block, last_block;
        unsigned char* shared;
        long long shared_capacity;
        unsigned char* stacks;
        long long stack_bytes;
        Copy* copies;
        char* problem;
        long long problem_bytes;
        const Block* blocks;
        long long block_count;
        Shadow* shared_shadow;
        unsigned* epoch;
    };

    struct Kernel { const char* name; void (*run)(void**); int parameters, max_threads; const int* sizes; };

    EMULATION_DATA Fiber fibers[THREADS];
    EMULATION_DATA Warp warps[WARPS];
    EMULATION_DATA NamedBarrier named_barriers[16];
    EMULATION_DATA const Launch* launch;
    EMULATION_DATA unsigned char* dynamic_shared;
    EMULATION_DATA void* scheduler;
    EMULATION_DATA int current, threads, at_barrier, done, stacks_used;
    EMULATION_DATA bool failed, woken;

    // The checks count intervals between barriers: those of this launch and of this block begin at these numbers.
    EMULATION_DATA unsigned epoch, launch_epoch, block_epoch;
    EMULATION_DATA bool acquired;
    EMULATION_DATA const Block* last_block;
    void complete_copies(int group);
    EMULATION_RUNTIME inline void begin_interval() { epoch++; }

    EMULATION_RUNTIME inline bool same(const char* a, const char* b) { return a == b || strcmp(a, b) == 0; }

    EMULATION_RUNTIME __attribute__((always_inline)) inline int lane() { return current & 31; }
    EMULATION_RUNTIME __attribute__((always_inline)) inline Warp& warp() { return warps[current >> 5]; }

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
    template <typename... A> [[noreturn]] EMULATION_RUNTIME __attribute__((noinline)) void fail(const char* format, A... values)
    {
        if (!failed)
        {
            failed = true;
            int written = snprintf(launch->problem, launch->problem_bytes, "block (%u, %u, %u), thread (%u, %u, %u): ", block_index.x, block_index.y, block_index.z, thread_index.x, thread_index.y, thread_index.z);
            snprintf(launch->problem + written, launch->problem_bytes - written, format, values...);
        }

        void* abandoned;
        emulation_switch(&abandoned, scheduler);
        __builtin_unreachable();
    }

    EMULATION_RUNTIME inline void enter(int thread)
    {
        current = thread;
        unsigned plane = block_extent.x * block_extent.y, t = thread;
        thread_index = {t % block_extent.x, t % plane / block_extent.x, t / plane};
    }

    // Goes on with another lane of this warp that can run, or else with the scheduler.
    EMULATION_RUNTIME inline __attribute__((noinline)) void yield(State state, const char* place)
    {
        int self = current;
        Warp& w = warps[self >> 5];
        Fiber& fiber = fibers[self];
        fiber.state = state;
        fiber.place = place;
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

    EMULATION_RUNTIME inline void barrier(const char* place)
    {
        at_barrier++;
        yield(AT_BARRIER, place);
    }

    // bar.sync: the last of `expected` threads wakes the others. For the checks it ends the interval of the whole block, so a race between those that
    // take part and those that do not may pass unseen.
    EMULATION_RUNTIME inline void named_barrier(int number, int expected)
    {
        NamedBarrier& barrier = named_barriers[number];
        if (barrier.arrived > 0 && barrier.expected != expected)
            fail("bar.sync %d of %d threads, while others wait there for %d", number, expected, barrier.expected);
        barrier.expected = expected;
        if (++barrier.arrived < expected)
        {
            fibers[current].named = number;
            yield(AT_NAMED_BARRIER, "bar.sync");
            return;
        }
        barrier.arrived = 0;
        begin_interval();
        woken = true;
        for (int t = 0; t < threads; t++)
            if (fibers[t].state == AT_NAMED_BARRIER && fibers[t].named == number)
            {
                fibers[t].state = READY;
                warps[t >> 5].ready |= 1u << (t & 31);
            }
    }

    // Comes to a collective of the warp; true for the lane that completes it, which then calls release(); the others have been waiting.
    EMULATION_RUNTIME inline bool complete(int kind, const char* place, unsigned mask)
    {
        if (mask != FULL)
            fail("%s: %s of the lanes 0x%08x; only whole warps are emulated", place, name(kind), mask);
        Warp& w = warp();
        if (w.arrived == 0)
            w.kind = kind, w.place = place;
        else if (w.kind != kind || !same(w.place, place))
            fail("%s: the lane has come to %s while others of its warp wait at %s, %s", place, name(kind), name(w.kind), w.place);
        if (++w.arrived == 32)
            return true;
        yield(AT_COLLECTIVE, place);
        return false;
    }

    EMULATION_RUNTIME inline void release()
    {
        Warp& w = warp();
        w.arrived = 0;
        w.set ^= 1;
        w.ready = FULL;
        for (int i = 0; i < 32; i++) fibers[(current & ~31) + i].state = READY;
    }

    EMULATION_RUNTIME inline unsigned long long* exchange(int kind, const char* place, unsigned mask, unsigned long long value)
    {
        Warp& w = warp();
        unsigned long long* values = w.values[w.set];
        values[lane()] = value;
        if (complete(kind, place, mask)) release();
        return values;
    }

    template <typename T> EMULATION_RUNTIME T shuffle(const char* place, unsigned mask, T value, int source)
    {
        static_assert(sizeof(T) <= 8, "shuffles move at most 8 bytes");
        unsigned long long bits = 0;
        __builtin_memcpy(&bits, &value, sizeof(T));
        unsigned long long* values = exchange(SHUFFLE, place, mask, bits);
        __builtin_memcpy(&value, &values[source], sizeof(T));
        return value;
    }

    template <typename T> EMULATION_RUNTIME T shuffle_index(const char* place, unsigned mask, T value, int source, int width = 32)
    {
        return shuffle(place, mask, value, (lane() & -width) | (source & (width - 1)));
    }
    template <typename T> EMULATION_RUNTIME T shuffle_xor(const char* place, unsigned mask, T value, int other, int width = 32)
    {
        int source = lane() ^ other;
        return shuffle(place, mask, value, (source & -width) > (lane() & -width) ? lane() : source);
    }
    template <typename T> EMULATION_RUNTIME T shuffle_down(const char* place, unsigned mask, T value, unsigned delta, int width = 32)
    {
        return shuffle(place, mask, value, (lane() & (width - 1)) + delta < (unsigned)width ? lane() + delta : lane());
    }
    template <typename T> EMULATION_RUNTIME T shuffle_up(const char* place, unsigned mask, T value, unsigned delta, int width = 32)
    {
        return shuffle(place, mask, value, (unsigned)(lane() & (width - 1)) >= delta ? lane() - delta : lane());
    }
    EMULATION_RUNTIME inline unsigned ballot(const char* place, unsigned mask, bool predicate)
    {
        unsigned long long* values = exchange(VOTE, place, mask, predicate);
        unsigned votes = 0;
        for (int i = 0; i < 32; i++) votes |= (unsigned)values[i] << i;
        return votes;
    }
    template <typename T, typename F> EMULATION_RUNTIME T reduce(const char* place, unsigned mask, T value, F join)
    {
        unsigned long long bits = 0;
        __builtin_memcpy(&bits, &value, sizeof(T));
        unsigned long long* values = exchange(REDUCE, place, mask, bits);
        __builtin_memcpy(&value, &values[0], sizeof(T));
        for (int i = 1; i < 32; i++)
        {
            T next;
            __builtin_memcpy(&next, &values[i], sizeof(T));
            value = join(value, next);
        }
        return value;
    }
    EMULATION_RUNTIME inline void sync_warp(const char* place, unsigned mask = FULL)
    {
        if (!complete(SYNC, place, mask)) return;
        warp().syncs++;
        release();
    }

    // Everyone waits and nobody can go on: says who waits where.
    EMULATION_RUNTIME inline void report_deadlock()
    {
        const char* barrier = "";
        int waiting = -1, lanes_done = 0, named = -1;
        for (int t = 0; t < threads; t++)
        {
            if (fibers[t].state == AT_BARRIER) barrier = fibers[t].place;
            if (fibers[t].state == AT_COLLECTIVE && waiting < 0) waiting = t;
            if (fibers[t].state == AT_NAMED_BARRIER) named = fibers[t].named;
        }

        char* text = launch->problem;
        long long size = launch->problem_bytes;
        failed = true;
        if (waiting >= 0)
        {
            Warp& w = warps[waiting >> 5];
            for (int i = 0; i < 32; i++) lanes_done += fibers[(waiting & ~31) + i].state == DONE;
            snprintf(text, size, "block (%u, %u, %u): deadlock: %d lanes of warp %d wait at %s, %s, which the other lanes never reach (%d have left the kernel, the rest wait at a barrier)",
                block_index.x, block_index.y, block_index.z, w.arrived, waiting >> 5, name(w.kind), w.place, lanes_done);
        }
        else if (named >= 0)
            snprintf(text, size, "block (%u, %u, %u): deadlock: %d of %d threads wait at bar.sync %d, which no other reaches",
                blockIdx.x, blockIdx.y, blockIdx.z, named_barriers[named].arrived, named_barriers[named].expected, named);
        else
            snprintf(text, size, "block (%u, %u, %u): deadlock: %d of %d threads wait at the barrier in %s, the others have left the kernel",
                block_index.x, block_index.y, block_index.z, at_barrier, threads, barrier);
    }

    // Whether everyone stands at the same barrier. Hardware counts arrivals only, but the language demands one barrier for all.
    EMULATION_RUNTIME inline bool same_barrier()
    {
        for (int t = 1; t < threads; t++)
            if (!same(fibers[t].place, fibers[0].place))
            {
                failed = true;
                snprintf(launch->problem, launch->problem_bytes, "block (%u, %u, %u): thread %d waits at the barrier in %s while thread 0 waits at the one in %s",
                    block_index.x, block_index.y, block_index.z, t, fibers[t].place, fibers[0].place);
                return false;
            }
        return true;
    }

    EMULATION_RUNTIME inline void fiber_main()
    {
        launch->kernel(launch->arguments);
        Fiber& fiber = fibers[current];
        complete_copies(fiber.committed + 1);
        if (*(unsigned long long*)fiber.base != CANARY)
            fail("the thread used more than its %lld bytes of stack", launch->stack_bytes);
        fiber.state = DONE;
        done++;
        warp().ready &= ~(1u << lane());
        emulation_switch(&fiber.stack, scheduler);
        __builtin_unreachable();
    }

    // Starts a thread on a stack. Tops are staggered: stacks a power of two apart would share a few lines of the cache.
    EMULATION_RUNTIME inline void start(int thread, int stack)
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
        fiber.copies = fiber.committed = 0;
        enter(thread);
        Warp& w = warp();
        w.unborn &= w.unborn - 1;
        w.ready |= 1u << lane();
        emulation_switch(&scheduler, fiber.stack);
        // A thread that is through without having waited leaves its stack to the next.
        if (fiber.state != DONE) stacks_used++;
    }

    EMULATION_RUNTIME inline void run_warp(int index)
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

    EMULATION_RUNTIME inline void run_block()
    {
        int warp_count = threads / 32;
        at_barrier = done = stacks_used = 0;
        for (int t = 0; t < threads; t++) fibers[t].state = UNBORN;
        for (int i = 0; i < warp_count; i++)
        {
            warps[i].ready = 0;
            warps[i].unborn = FULL;
            warps[i].arrived = warps[i].set = warps[i].syncs = 0;
        }
        for (NamedBarrier& barrier : named_barriers) barrier.arrived = 0;
        begin_interval();
        block_epoch = epoch;
        acquired = false;
        __builtin_memset(__bss_start, 0xFF, _end - __bss_start);
        __builtin_memset(dynamic_shared, 0xFF, launch->shared_bytes + launch->shared_guard);
        while (!failed)
        {
            woken = false;
            for (int i = 0; i < warp_count && !failed; i++) run_warp(i);
            if (failed || done == threads) break;
            if (woken) continue;
            if (at_barrier != threads) { report_deadlock(); break; }
            if (!same_barrier()) break;
            at_barrier = 0;
            begin_interval();
            for (int i = 0; i < warp_count; i++) warps[i].ready = FULL;
            for (int t = 0; t < threads; t++) fibers[t].state = READY;
        }
        for (int i = 0; i < launch->shared_guard && !failed; i++)
            if (dynamic_shared[launch->shared_bytes + i] != 0xFF)
            {
                failed = true;
                snprintf(launch->problem, launch->problem_bytes, "block (%u, %u, %u): the kernel wrote %d bytes past the end of its %d bytes of dynamic shared memory",
                    block_index.x, block_index.y, block_index.z, i + 1, launch->shared_bytes);
            }
    }

    template <int... I> struct Indices {};
    template <auto F, typename T> struct Entry;
    template <auto F, typename... P> struct Entry<F, void (*)(P...)>
    {
        static constexpr int count = sizeof...(P);
        static constexpr int sizes[] = {(int)sizeof(P)..., 0};
        template <int... I> EMULATION_RUNTIME static void call(void** a, Indices<I...>) { F(*(P*)a[I]...); }
        EMULATION_RUNTIME static void run(void** a) { call(a, Indices<__integer_pack(sizeof...(P))...>{}); }
    };
    template <auto F> constexpr Kernel kernel(const char* name, int max_threads)
    {
        using E = Entry<F, decltype(F)>;
        return {name, &E::run, E::count, max_threads, E::sizes};
    }
}

// Runs some blocks of a launch; 0, or 1 with the problem written out.
extern "C" EMULATION_RUNTIME __attribute__((visibility("default"))) int emulation_run(const emulation::Launch* launch)
{
    using namespace emulation;
    emulation::launch = launch;
    dynamic_shared = launch->shared;
    failed = false;
    epoch = *launch->epoch + 1;
    launch_epoch = epoch;
    last_block = nullptr;
    block_extent = {(unsigned)launch->block[0], (unsigned)launch->block[1], (unsigned)launch->block[2]};
    grid_extent = {(unsigned)launch->grid[0], (unsigned)launch->grid[1], (unsigned)launch->grid[2]};
    if (_end - __bss_start > 1 << 20) { failed = true; snprintf(launch->problem, launch->problem_bytes, "the kernels of the module have more than 1 MiB of static shared memory"); }
    threads = launch->block[0] * launch->block[1] * launch->block[2];
    long long plane = (long long)grid_extent.x * grid_extent.y;
    for (long long b = launch->first_block; b < launch->last_block && !failed; b++)
    {
        block_index = {(unsigned)(b % grid_extent.x), (unsigned)(b % plane / grid_extent.x), (unsigned)(b / plane)};
        run_block();
    }
    *launch->epoch = epoch;
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
