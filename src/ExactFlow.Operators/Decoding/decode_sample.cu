#include "elements.cuh"
#include "overlap.cuh"

// Draws the next token of every sequence from its logits, as the host's Sampler does (see there for what each option means), and looks up its embedding, so
// that the next step needs nothing from the host. A block per sequence.
//
// Weights e^((logit - highest) / temperature) are whole numbers of 2^-44, so their sums do not depend on the order in which threads add: the same logits give the
// same token every time. The host sums doubles; both agree but for draws within 1e-9 of the border between two tokens.
//
// Top-k, top-p and the draw itself are one question: in an order of the tokens, where does a running sum (of ones, or of weights) reach a target? A histogram
// over the distance from the highest logit gives the place roughly. Mostly few tokens lie above it: they are collected and sorted, and the rest is done on that
// list. Otherwise nothing is sorted: histograms over the digits of the logits narrow the place down, and last come tokens of one logit by their number.

struct SampleArgs
{
    const float* logits;                       // [batch, vocabulary]
    unsigned char* seen;                       // [batch, seen_stride], tokens that the repetition penalty applies to; null without
    u64* weights;                              // [batch, vocabulary], working memory
    i64* drawn;                                // [batch], random numbers used up
    int* tokens;                               // [batch], the result; -1 or -2 where logits were not numbers, or all impossible
    int* ids;                                  // [batch], the result as something that can be looked up in any case
    const bf16* embeddings; const float* next_norm; float* residual; bf16* next_x; float* next_squares; i64 x_stride, seen_stride;
    u64 seed, stream;
    double temperature, top_p, min_p, penalty;
    int top_k, vocabulary, hidden, batch;
};

constexpr int THREADS = 1024, BINS = 2048, LIST = 2048;
constexpr double ONE = 17592186044416.0;        // 2^44
constexpr int NOT_A_NUMBER = -1, ALL_IMPOSSIBLE = -2;

struct Shared
{
    u64 sums[33];
    double values[32];
    u64 target;
    int numbers[32], bin, count;
    u64 bins[BINS];                            // histograms; then the list of tokens
};

// One sequence's logits, as options and tokens seen change them.
struct Logits
{
    const float* values; const unsigned char* seen; double penalty;
    __device__ __forceinline__ bool is_seen(int i) const { return seen != nullptr && seen[i]; }
    __device__ __forceinline__ double changed(double x, bool is_seen) const { return !is_seen ? x : x > 0 ? x / penalty : x * penalty; }
    __device__ __forceinline__ double operator()(int i) const { return changed(values[i], is_seen(i)); }
};

// visit(i, logit) for the thread's tokens. Logits come a batch at a time: what is done with one, such as an atomic operation, holds up the loads behind it.
template <typename F> __device__ __forceinline__ void each_logit(int vocabulary, const Logits& logits, F visit)
{
    constexpr int BATCH = 8;
#pragma unroll 1
    for (int first = threadIdx.x; first < vocabulary; first += THREADS * BATCH)
    {
        float x[BATCH];
        bool is_seen[BATCH];
#pragma unroll
        for (int j = 0; j < BATCH; j++)
        {
            int i = first + j * THREADS;
            x[j] = i < vocabulary ? logits.values[i] : 0.f;
            is_seen[j] = i < vocabulary && logits.is_seen(i);
        }
#pragma unroll
        for (int j = 0; j < BATCH; j++)
            if (first + j * THREADS < vocabulary) visit(first + j * THREADS, logits.changed(x[j], is_seen[j]));
    }
}

// The tokens still in the race: in falling order of logits, those up to and including (key, token), and of these those of at least a weight.
struct Kept { bool sorted; u32 key; int token; u64 least; };

// Larger for larger numbers.
__device__ __forceinline__ u32 key_of(double x)
{
    u32 bits = __float_as_uint((float)x + 0.f);            // no difference between zeros
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}
__device__ __forceinline__ bool keeps(const Kept& kept, u32 key, int token, u64 weight)
{
    return weight >= kept.least && (!kept.sorted || key > kept.key || (key == kept.key && token <= kept.token));
}

__device__ __forceinline__ u64 warp_scan(u64 x)
{
    int lane = threadIdx.x & 31;
#pragma unroll
    for (int d = 1; d < 32; d <<= 1)
    {
        u64 before = __shfl_up_sync(0xFFFFFFFFu, x, d);
        if (lane >= d) x += before;
    }
    return x;
}
// The sum of x over the threads before this one; the sum over all of them in total.
__device__ __forceinline__ u64 block_scan(Shared& s, u64 x, u64& total)
{
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    u64 inclusive = warp_scan(x);
    if (lane == 31) s.sums[warp] = inclusive;
    __syncthreads();
    if (warp == 0)
    {
        u64 sum = s.sums[lane], all = warp_scan(sum);
        s.sums[lane] = all - sum;
        if (lane == 31) s.sums[32] = all;
    }
    __syncthreads();
    u64 before = s.sums[warp] + inclusive - x;
    total = s.sums[32];
    __syncthreads();
    return before;
}

// Measures: how much a token counts towards a target.
enum Measure { BY_NUMBER, BY_WEIGHT };

// Among the tokens with a given key, or among all of them without an order: the first, by number, at which the running sum reaches target.
// Every warp adds up a stretch of the vocabulary; the one that has the place walks through its own again.
__device__ __forceinline__ int find_token(Shared& s, const SampleArgs& g, const Logits& logits, const u64* weights, const Kept& kept, bool any_key, u32 key, Measure measure, u64 target)
{
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, share = (g.vocabulary + THREADS - 1) / THREADS * 32;
    int begin = min(g.vocabulary, warp * share), end = min(g.vocabulary, begin + share);
    u64 sum = 0, total;
    for (int i = begin + lane; i < end; i += 32)
    {
        u32 own = key_of(logits(i));
        if ((any_key || own == key) && keeps(kept, own, i, weights[i])) sum += measure == BY_NUMBER ? 1 : weights[i];
    }
    u64 before = block_scan(s, sum, total), stretch = warp_scan(sum);
    before = __shfl_sync(0xFFFFFFFFu, before, 0);                   // of the warps ahead
    stretch = __shfl_sync(0xFFFFFFFFu, stretch, 31);
    if (before < target && before + stretch >= target)
        for (int first = begin; first < end; first += 32)
        {
            int i = first + lane;
            u64 own = 0;
            if (i < end)
            {
                u32 own_key = key_of(logits(i));
                if ((any_key || own_key == key) && keeps(kept, own_key, i, weights[i])) own = measure == BY_NUMBER ? 1 : weights[i];
            }
            u64 inclusive = before + warp_scan(own);
            unsigned reached = __ballot_sync(0xFFFFFFFFu, inclusive >= target);
            if (reached)
            {
                if (lane == 0) s.bin = first + __ffs(reached) - 1;
                break;
            }
            before = __shfl_sync(0xFFFFFFFFu, inclusive, 31);
        }
    __syncthreads();
    int token = s.bin;
    __syncthreads();
    return token;
}

// Walks the bins from the highest down to where the running sum reaches target; target becomes what is left of it within that bin.
__device__ __forceinline__ int find_bin(Shared& s, u64& target)
{
    constexpr int SHARE = BINS / THREADS;
    int highest = BINS - 1 - (int)threadIdx.x * SHARE;
    u64 sum = 0, total;
    for (int i = 0; i < SHARE; i++) sum += s.bins[highest - i];
    u64 before = block_scan(s, sum, total);
    if (before < target && before + sum >= target)
        for (int i = 0; i < SHARE; i++)
        {
            if (before + s.bins[highest - i] >= target)
            {
                s.bin = highest - i;
                s.target = target - before;
                break;
            }
            before += s.bins[highest - i];
        }
    __syncthreads();
    target = s.target;
    int bin = s.bin;
    __syncthreads();
    return bin;
}

// The bin of a logit in the first histogram: over its distance from the highest one, which spreads tokens well. Beyond e^-31 all share the lowest.
__device__ __forceinline__ int coarse_bin(const SampleArgs& g, double x, double highest)
{
    double distance = (highest - x) * ((BINS - 1) / (31.0 * g.temperature));
    return BINS - 1 - (distance < BINS - 1 ? (int)distance : BINS - 1);
}

// The last token of the smallest prefix, in falling order of logits, whose measure reaches target, which is at least 1 and at most the measure of all.
__device__ __forceinline__ Kept find_prefix(Shared& s, const SampleArgs& g, const Logits& logits, const u64* weights, const Kept& kept, double highest, Measure measure, u64 target)
{
    int coarse = -1;
    u32 prefix = 0;
    for (int level = 0; level < 4; level++)
    {
        int shift = level == 0 ? 32 : level == 1 ? 21 : level == 2 ? 10 : 0, width = level == 3 ? 10 : 11;
        for (int i = threadIdx.x; i < BINS; i += THREADS) s.bins[i] = 0;
        __syncthreads();
        for (int i = threadIdx.x; i < g.vocabulary; i += THREADS)
        {
            double x = logits(i);
            int bin = coarse_bin(g, x, highest);
            u32 key = key_of(x);
            if (level > 0)
            {
                if (bin != coarse || (level > 1 && key >> (shift + width) != prefix)) continue;
                bin = key >> shift & ((1 << width) - 1);
            }
            if (keeps(kept, key, i, weights[i])) atomicAdd(&s.bins[bin], measure == BY_NUMBER ? 1ull : weights[i]);
        }
        __syncthreads();
        int bin = find_bin(s, target);
        if (level == 0) coarse = bin;
        else prefix = prefix << width | bin;
    }
    int token = find_token(s, g, logits, weights, kept, false, prefix, measure, target);
    return Kept{true, prefix, token, kept.least};
}

__device__ __forceinline__ u64 total_of(Shared& s, const SampleArgs& g, const Logits& logits, const u64* weights, const Kept& kept)
{
    u64 sum = 0, total;
    for (int i = threadIdx.x; i < g.vocabulary; i += THREADS)
        if (keeps(kept, key_of(logits(i)), i, weights[i])) sum += weights[i];
    block_scan(s, sum, total);
    return total;
}

// The highest logit and its first place; -1 as place where one is no number, or plus infinity.
__device__ __forceinline__ int find_highest(Shared& s, const SampleArgs& g, const Logits& logits, double& highest)
{
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, place = g.vocabulary, wrong = 0;
    double best = -__longlong_as_double(0x7FF0000000000000ll);
    each_logit(g.vocabulary, logits, [&](int i, double x)
    {
        wrong |= !(x < __longlong_as_double(0x7FF0000000000000ll));
        if (x > best || place == g.vocabulary)
        {
            best = x;
            place = i;
        }
    });
#pragma unroll
    for (int round = 0; round < 2; round++)
    {
#pragma unroll
        for (int d = 16; d > 0; d >>= 1)
        {
            double other = __shfl_xor_sync(0xFFFFFFFFu, best, d);
            int at = __shfl_xor_sync(0xFFFFFFFFu, place, d);
            wrong |= __shfl_xor_sync(0xFFFFFFFFu, wrong, d);
            if (other > best || (other == best && at < place))
            {
                best = other;
                place = at;
            }
        }
        if (round == 1) break;
        if (lane == 0)
        {
            s.values[warp] = best;
            s.numbers[warp] = wrong ? -1 : place;
        }
        __syncthreads();
        best = s.values[lane];
        place = s.numbers[lane];
        wrong = place < 0;
        __syncthreads();
    }
    highest = best;
    return wrong ? -1 : place;
}

// Philox4x32-10 (Salmon et al., SC 2011): a uniform number in [0, 1) with 53 random bits.
__device__ __forceinline__ double uniform(u64 seed, u64 stream, u64 position)
{
    u32 c0 = (u32)position, c1 = (u32)(position >> 32), c2 = (u32)stream, c3 = (u32)(stream >> 32), k0 = (u32)seed, k1 = (u32)(seed >> 32);
    for (int round = 0; round < 10; round++)
    {
        u64 p0 = (u64)0xD2511F53u * c0, p1 = (u64)0xCD9E8D57u * c2;
        c0 = (u32)(p1 >> 32) ^ c1 ^ k0;
        c1 = (u32)p1;
        c2 = (u32)(p0 >> 32) ^ c3 ^ k1;
        c3 = (u32)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return (double)(((u64)c1 << 32 | c0) >> 11) * (1.0 / 9007199254740992.0);
}

// How many whole parts of 2^-44 a token weighs.
__device__ __forceinline__ u64 weight_of(const SampleArgs& g, double x, double highest) { return (u64)(exp((x - highest) * (1 / g.temperature)) * ONE + 0.5); }

// A whole number from 1 to total.
__device__ __forceinline__ u64 random_target(const SampleArgs& g, int sequence, u64 total)
{
    u64 target = (u64)(uniform(g.seed, g.stream + sequence, g.drawn[sequence]) * (double)total) + 1;
    return target < total ? target : total;
}

__device__ __forceinline__ u64 part_of(double share, u64 total)
{
    u64 part = (u64)ceil(share * (double)total);
    return part > 0 ? part : 1;
}

// Lists the tokens of the bins from coarse upwards in falling order of logits, equal ones by number: (key, ~token) in s.bins. How many there are, or -1 when
// there is no room for them.
__device__ __forceinline__ int sorted_list(Shared& s, const SampleArgs& g, const Logits& logits, double highest, int coarse)
{
    if (threadIdx.x == 0) s.count = 0;
    __syncthreads();
    each_logit(g.vocabulary, logits, [&](int i, double x)
    {
        if (coarse_bin(g, x, highest) < coarse) return;
        int place = atomicAdd(&s.count, 1);
        if (place < LIST) s.bins[place] = (u64)key_of(x) << 32 | (u32)~i;
    });
    __syncthreads();
    int count = s.count, size = 2;
    if (count > LIST) return -1;
    while (size < count) size *= 2;
    for (int i = count + threadIdx.x; i < size; i += THREADS) s.bins[i] = 0;
    __syncthreads();

    // Bitonic: runs that rise and fall in turns are merged until one is left, which falls.
    for (int run = 2; run <= size; run *= 2)
        for (int step = run / 2; step > 0; step /= 2)
        {
            int low = threadIdx.x / step * 2 * step + threadIdx.x % step, high = low + step;
            if (high < size && (s.bins[low] < s.bins[high]) == ((low & run) == 0))
            {
                u64 other = s.bins[low];
                s.bins[low] = s.bins[high];
                s.bins[high] = other;
            }
            __syncthreads();
        }
    return count;
}

// Of a sorted list: the first `most` tokens; of these, where `share` is below 1, the smallest prefix that weighs at least that share of `all` (0: of themselves);
// of these, those of at least a weight; and of these one is drawn.
__device__ __forceinline__ int draw_from_list(Shared& s, const SampleArgs& g, const Logits& logits, double highest, int count, double share, u64 all, int sequence)
{
    int place = threadIdx.x * 2;
    u64 own[2], total;
    for (int j = 0; j < 2; j++) own[j] = place + j < count ? weight_of(g, logits(~(u32)s.bins[place + j]), highest) : 0;
    u64 before = block_scan(s, own[0] + own[1], total);
    u64 needed = share < 1 ? part_of(share, all > 0 ? all : total) : total, least = (u64)(g.min_p * ONE + 0.5);
    for (int j = 0; j < 2; j++)
    {
        bool keeps = before < needed && own[j] >= least;
        before += own[j];
        if (!keeps) own[j] = 0;
    }
    before = block_scan(s, own[0] + own[1], total);
    u64 target = random_target(g, sequence, total);
    for (int j = 0; j < 2; j++)
    {
        if (before < target && before + own[j] >= target) s.bin = ~(u32)s.bins[place + j];
        before += own[j];
    }
    __syncthreads();
    return s.bin;
}

__device__ __forceinline__ int draw(Shared& s, const SampleArgs& g, const Logits& logits, int sequence)
{
    double highest;
    int first = find_highest(s, g, logits, highest);
    if (first < 0) return NOT_A_NUMBER;
    if (g.temperature == 0) return first;
    if (highest == -__longlong_as_double(0x7FF0000000000000ll)) return ALL_IMPOSSIBLE;

    if (g.top_k > 0 && g.top_k <= LIST)
    {
        for (int i = threadIdx.x; i < BINS; i += THREADS) s.bins[i] = 0;
        __syncthreads();
        each_logit(g.vocabulary, logits, [&](int, double x) { atomicAdd((u32*)&s.bins[coarse_bin(g, x, highest)], 1u); });
        __syncthreads();
        u64 target = min(g.top_k, g.vocabulary);
        int coarse = find_bin(s, target), count = sorted_list(s, g, logits, highest, coarse);
        if (count >= 0) return draw_from_list(s, g, logits, highest, min(count, g.top_k), g.top_p, 0, sequence);
    }

    u64* weights = g.weights + (i64)sequence * g.vocabulary;
    each_logit(g.vocabulary, logits, [&](int i, double x) { weights[i] = weight_of(g, x, highest); });
    __syncthreads();
    Kept kept = {false, 0, 0, 0};
    if (g.top_k > 0 && g.top_k < g.vocabulary) kept = find_prefix(s, g, logits, weights, kept, highest, BY_NUMBER, g.top_k);
    if (g.top_p < 1)
    {
        u64 all = total_of(s, g, logits, weights, kept), target = part_of(g.top_p, all);
        if (g.top_k == 0)
        {
            for (int i = threadIdx.x; i < BINS; i += THREADS) s.bins[i] = 0;
            __syncthreads();
            for (int i = threadIdx.x; i < g.vocabulary; i += THREADS) atomicAdd(&s.bins[coarse_bin(g, logits(i), highest)], weights[i]);
            __syncthreads();
            u64 left = target;
            int coarse = find_bin(s, left), count = sorted_list(s, g, logits, highest, coarse);
            if (count >= 0) return draw_from_list(s, g, logits, highest, count, g.top_p, all, sequence);
        }
        kept = find_prefix(s, g, logits, weights, kept, highest, BY_WEIGHT, target);
    }
    kept.least = (u64)(g.min_p * ONE + 0.5);
    u64 target = random_target(g, sequence, total_of(s, g, logits, weights, kept));
    bool sorted = g.top_k > 0 || g.top_p < 1;
    return sorted ? find_prefix(s, g, logits, weights, kept, highest, BY_WEIGHT, target).token : find_token(s, g, logits, weights, kept, true, 0, BY_WEIGHT, target);
}

// The residual stream begins with the token's embedding; beside it what the first norm needs: times the norm's weight, and its squares in tiles of eight,
// which as many neighbouring threads add up.
__device__ __forceinline__ void embed(const SampleArgs& g, int sequence, int token)
{
    const bf16* row = g.embeddings + (i64)token * g.hidden;
    int tiles = (g.hidden + 7) / 8;
    for (int first = threadIdx.x; first < (tiles * 8 + 31) / 32 * 32; first += THREADS)
    {
        float x = 0.f;
        if (first < g.hidden)
        {
            x = to_float(row[first]);
            g.residual[(i64)sequence * g.hidden + first] = x;
            store(g.next_x, sequence * g.x_stride + first, x * g.next_norm[first]);
        }
        float square = x * x;
        square += __shfl_xor_sync(0xFFFFFFFFu, square, 1);
        square += __shfl_xor_sync(0xFFFFFFFFu, square, 2);
        square += __shfl_xor_sync(0xFFFFFFFFu, square, 4);
        if (first % 8 == 0 && first < tiles * 8) g.next_squares[(i64)sequence * tiles + first / 8] = square;
    }
}

// The kernels of the next token may begin now, and no sooner: they read the states of this one before they wait, however many kernels lie between, and so must
// find everything before this kernel ended.
__device__ __forceinline__ void begin_token()
{
    wait_for_previous();
    let_next_begin();
}

extern "C" __global__ void __launch_bounds__(THREADS) decode_sample(const SampleArgs g)
{
    __shared__ Shared s;
    begin_token();
    int sequence = blockIdx.x;
    i64 row = (i64)sequence * g.vocabulary;
    Logits logits = {g.logits + row, g.seen == nullptr ? nullptr : g.seen + sequence * g.seen_stride, g.penalty};
    int token = draw(s, g, logits, sequence);
    __syncthreads();
    if (threadIdx.x == 0)
    {
        if (g.temperature > 0) g.drawn[sequence]++;
        g.tokens[sequence] = token;
        g.ids[sequence] = max(token, 0);
        if (g.seen != nullptr && token >= 0) g.seen[sequence * g.seen_stride + token] = 1;
    }
    if (g.residual != nullptr) embed(g, sequence, max(token, 0));
}

// The embedding of tokens that are known already.
extern "C" __global__ void __launch_bounds__(THREADS) decode_embed(const SampleArgs g)
{
    begin_token();
    embed(g, blockIdx.x, g.ids[blockIdx.x]);
}
