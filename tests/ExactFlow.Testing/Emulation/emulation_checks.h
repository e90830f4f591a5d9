// What watches every access to memory, after emulation.h: bounds, races, copies under way. Kernels are compiled with -fsanitize=thread, which makes g++
// call the functions below before each access that other threads might see; nothing of its library is used.
//
// Two accesses race when they touch the same bytes from different threads, at least one writes, and nothing orders them: in one block a barrier
// (or __syncwarp within a warp), between blocks of a launch nothing at all. Atomic operations do not race; a block that has made one may then
// read what other blocks wrote, as "the last one to finish adds up" does.

namespace emulation
{
    enum : unsigned { SEVERAL_LANES = 1u << 28, SEVERAL_WARPS = 2u << 28, SEVERAL_BLOCKS = 4u << 28, UNDER_WAY = 8u << 28, SITE = (1u << 28) - 1 };
    constexpr int GRAIN = 2, MAX_COPIES = 256;

    // The last write to two bytes of memory and the last read: in which interval between barriers, by whom (the thread, and its warp's count of
    // __syncwarp above), where in the code the write stands, and above that the flags.
    struct Shadow { unsigned write_epoch, read_epoch, writer, reader, write_site; };

    EMULATION_RUNTIME inline int thread_of(unsigned who) { return who & (THREADS - 1); }
    EMULATION_RUNTIME inline bool same_warp(unsigned a, unsigned b) { return ((a ^ b) & (THREADS - 32)) == 0; }
    EMULATION_RUNTIME inline bool same_sync(unsigned a, unsigned b) { return a / THREADS == b / THREADS; }
    EMULATION_RUNTIME inline unsigned self() { return (unsigned)current | warp().syncs * (unsigned)THREADS; }

    EMULATION_RUNTIME inline unsigned site_of(void* site) { return (unsigned)((unsigned long long)site - (unsigned long long)__ehdr_start - 1); }

    EMULATION_RUNTIME inline const Block* find_block(unsigned long long address)
    {
        long long low = 0, high = launch->block_count;
        while (low < high)
        {
            long long middle = (low + high) / 2;
            if (launch->blocks[middle].start <= address) low = middle + 1; else high = middle;
        }
        return low > 0 ? launch->blocks + low - 1 : nullptr;
    }

    [[noreturn]] EMULATION_RUNTIME __attribute__((noinline, cold)) inline void outside(unsigned long long address, unsigned bytes, bool write, void* site)
    {
        const char* verb = write ? "writes" : "reads";
        const Block* below = find_block(address);
        const Block* above = below == nullptr ? launch->blocks : below + 1;
        unsigned long long past = below == nullptr ? ~0ull : address < below->end ? 0 : address - below->end, ahead = above < launch->blocks + launch->block_count ? above->start - address : ~0ull;
        if (past <= ahead && past < (1 << 16))
            fail("@%x: %s %u bytes at byte %lld of a block of %lld bytes", site_of(site), verb, bytes, (long long)(address - below->start), (long long)(below->end - below->start));
        if (ahead < past && ahead < (1 << 16))
            fail("@%x: %s %u bytes, %lld bytes before a block of %lld bytes", site_of(site), verb, bytes, (long long)ahead, (long long)(above->end - above->start));
        fail("@%x: %s %u bytes at 0x%llx, which is no memory of the device", site_of(site), verb, bytes, address);
    }

    [[noreturn]] EMULATION_RUNTIME __attribute__((noinline, cold)) inline void race(const Shadow& s, unsigned long long address, bool global, bool write, bool other_write, void* site)
    {
        unsigned long long base = global ? last_block->start : address - (unsigned long long)dynamic_shared < (unsigned long long)launch->shared_capacity ? (unsigned long long)dynamic_shared : (unsigned long long)__bss_start;
        char who[64], where[32] = "";
        if ((other_write ? s.write_epoch : s.read_epoch) < block_epoch) snprintf(who, sizeof(who), "a thread of another block");
        else snprintf(who, sizeof(who), "thread %d", thread_of(other_write ? s.writer : s.reader));
        if (other_write) snprintf(where, sizeof(where), " in @%x", s.write_site & SITE);
        fail("race: @%x %s byte %lld of %s that %s %s%s, and nothing orders the two", site_of(site), write ? "writes" : "reads", (long long)(address - base),
            global ? "device memory" : "shared memory", who, other_write ? "writes" : "reads", where);
    }

    [[noreturn]] EMULATION_RUNTIME __attribute__((noinline, cold)) inline void too_early(const Shadow& s, unsigned long long address, bool write, void* site)
    {
        fail("@%x: %s byte %lld of shared memory while a cp.async to it is under way (@%x, no cp_wait covers it yet)", site_of(site), write ? "writes" : "reads",
            (long long)(address - (unsigned long long)dynamic_shared), s.write_site & SITE);
    }

    // One access to two bytes.
    EMULATION_RUNTIME __attribute__((always_inline)) inline void note(Shadow& s, unsigned me, unsigned long long address, bool global, bool write, void* site)
    {
        unsigned now = epoch, scope = global ? launch_epoch : block_epoch;
        if (s.write_site & UNDER_WAY) too_early(s, address, write, site);
        if (s.write_epoch >= scope)
        {
            bool ordered = s.write_epoch < block_epoch ? acquired : s.write_epoch != now || thread_of(s.writer) == current || (same_warp(s.writer, me) && !same_sync(s.writer, me));
            if (!ordered) race(s, address, global, write, true, site);
        }
        bool read_before = s.read_epoch >= scope;
        if (write)
        {
            if (read_before)
            {
                bool ordered = s.read_epoch < block_epoch || (s.write_site & SEVERAL_BLOCKS) ? acquired
                    : s.read_epoch != now || (!(s.write_site & SEVERAL_WARPS) && same_warp(s.reader, me) && (!same_sync(s.reader, me) || (s.reader == me && !(s.write_site & SEVERAL_LANES))));
                if (!ordered) race(s, address, global, write, false, site);
            }
            s.write_epoch = now;
            s.writer = me;
            s.write_site = (s.write_site & ~SITE) | site_of(site);
            return;
        }
        if (s.read_epoch == now)
        {
            if (s.reader == me) return;
            if (!same_warp(s.reader, me)) s.write_site |= SEVERAL_WARPS;
            else if (same_sync(s.reader, me)) s.write_site |= SEVERAL_LANES;
            else s.write_site &= ~SEVERAL_LANES;
        }
        else
        {
            unsigned blocks = !read_before ? 0 : s.read_epoch < block_epoch ? SEVERAL_BLOCKS : s.write_site & SEVERAL_BLOCKS;
            s.write_site = (s.write_site & (SITE | UNDER_WAY)) | blocks;
            s.read_epoch = now;
        }
        s.reader = me;
    }

    [[noreturn]] EMULATION_RUNTIME __attribute__((noinline, cold)) inline void outside_shared(unsigned long long address, unsigned bytes, bool write, void* site)
    {
        fail("@%x: %s %u bytes at byte %lld of %d bytes of dynamic shared memory", site_of(site), write ? "writes" : "reads", bytes, (long long)(address - (unsigned long long)dynamic_shared),
            launch->shared_bytes);
    }

    // What is known about shared memory at an address: dynamic first, then static. Null elsewhere.
    EMULATION_RUNTIME __attribute__((always_inline)) inline Shadow* shared_shadow(unsigned long long address)
    {
        unsigned long long dynamic = address - (unsigned long long)dynamic_shared, fixed = address - (unsigned long long)__bss_start;
        if (dynamic < (unsigned long long)launch->shared_capacity) return launch->shared_shadow + dynamic / GRAIN;
        if (fixed < (unsigned long long)(_end - __bss_start)) return launch->shared_shadow + (launch->shared_capacity + fixed) / GRAIN;
        return nullptr;
    }

    EMULATION_RUNTIME __attribute__((always_inline)) inline void access(const void* pointer, unsigned bytes, bool write, void* site)
    {
        unsigned long long address = (unsigned long long)pointer;
        // Local variables, and those of the module that are not shared: threadIdx, tables.
        if (address - (unsigned long long)launch->stacks < (unsigned long long)launch->stack_bytes * THREADS) return;
        if (address >= (unsigned long long)__ehdr_start && address < (unsigned long long)__bss_start) return;
        Shadow* s = shared_shadow(address);
        bool global = s == nullptr;
        if (global)
        {
            if (last_block == nullptr || address < last_block->start || address >= last_block->end) last_block = find_block(address);
            if (last_block == nullptr || address + bytes > last_block->end) outside(address, bytes, write, site);
            s = last_block->shadow + (address - last_block->start) / GRAIN;
        }
        else if (address - (unsigned long long)dynamic_shared < (unsigned long long)launch->shared_capacity && address + bytes > (unsigned long long)dynamic_shared + launch->shared_bytes)
            outside_shared(address, bytes, write, site);
        unsigned me = self();
        for (unsigned i = 0; i < bytes; i += GRAIN) note(s[i / GRAIN], me, address + i, global, write, site);
    }

    EMULATION_RUNTIME __attribute__((noinline)) inline void read(const void* pointer, unsigned bytes, void* site) { access(pointer, bytes, false, site); }

    // Atomic operations only have to stay inside of memory.
    EMULATION_RUNTIME __attribute__((noinline)) inline void atomic(const void* pointer, unsigned bytes)
    {
        unsigned long long address = (unsigned long long)pointer;
        acquired = true;
        if (shared_shadow(address) != nullptr) return;
        const Block* block = find_block(address);
        if (block == nullptr || address + bytes > block->end) outside(address, bytes, true, __builtin_return_address(0));
    }

    EMULATION_RUNTIME __attribute__((noinline)) inline void begin_copy(void* to, const void* from, bool valid, void* site)
    {
        Fiber& fiber = fibers[current];
        if (fiber.copies == MAX_COPIES) fail("more than %d cp.async of one thread are under way", MAX_COPIES);
        access(to, 16, true, site);
        if (valid) access(from, 16, false, site);
        Shadow* s = shared_shadow((unsigned long long)to);
        if (s == nullptr) fail("@%x: cp.async to memory that is not shared", site_of(site));
        for (int i = 0; i < 16 / GRAIN; i++) s[i].write_site |= UNDER_WAY;
        launch->copies[current * MAX_COPIES + fiber.copies++] = {to, from, fiber.committed, valid};
    }

    // Finishes the copies of the first `group` groups that the thread committed.
    EMULATION_RUNTIME __attribute__((noinline)) inline void complete_copies(int group)
    {
        Fiber& fiber = fibers[current];
        Copy* copies = launch->copies + current * MAX_COPIES;
        int kept = 0;
        for (int i = 0; i < fiber.copies; i++)
        {
            Copy copy = copies[i];
            if (copy.group >= group) { copies[kept++] = copy; continue; }
            if (copy.valid) __builtin_memcpy(copy.to, copy.from, 16); else __builtin_memset(copy.to, 0, 16);
            Shadow* s = shared_shadow((unsigned long long)copy.to);
            for (int k = 0; k < 16 / GRAIN; k++)
            {
                s[k].write_site &= ~UNDER_WAY;
                s[k].write_epoch = epoch;
                s[k].writer = self();
            }
        }
        fiber.copies = kept;
    }
}

#define EMULATION_HOOK extern "C" EMULATION_RUNTIME __attribute__((used, visibility("hidden"))) inline void
#define EMULATION_HOOKS(bytes) \
    EMULATION_HOOK __tsan_read##bytes(void* p) { emulation::access(p, bytes, false, __builtin_return_address(0)); } \
    EMULATION_HOOK __tsan_write##bytes(void* p) { emulation::access(p, bytes, true, __builtin_return_address(0)); }
#define EMULATION_HOOKS_UNALIGNED(bytes) \
    EMULATION_HOOK __tsan_unaligned_read##bytes(void* p) { emulation::access(p, bytes, false, __builtin_return_address(0)); } \
    EMULATION_HOOK __tsan_unaligned_write##bytes(void* p) { emulation::access(p, bytes, true, __builtin_return_address(0)); }
EMULATION_HOOKS(1)
EMULATION_HOOKS(2)
EMULATION_HOOKS(4)
EMULATION_HOOKS(8)
EMULATION_HOOKS(16)
EMULATION_HOOKS_UNALIGNED(2)
EMULATION_HOOKS_UNALIGNED(4)
EMULATION_HOOKS_UNALIGNED(8)
EMULATION_HOOKS_UNALIGNED(16)
EMULATION_HOOK __tsan_read_range(void* p, unsigned long bytes) { emulation::access(p, bytes, false, __builtin_return_address(0)); }
EMULATION_HOOK __tsan_write_range(void* p, unsigned long bytes) { emulation::access(p, bytes, true, __builtin_return_address(0)); }
EMULATION_HOOK __tsan_init() {}
EMULATION_HOOK __tsan_func_entry(void*) {}
EMULATION_HOOK __tsan_func_exit() {}
