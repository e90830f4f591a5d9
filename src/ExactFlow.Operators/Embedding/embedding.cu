#include "elements.cuh"

// Rows of a table by token id, and the table's gradient: token positions are sorted by id (a stable radix sort, 8 bits a pass, without atomics),
// then every row of the gradient is written once, by the warps that sum its tokens in the order of their positions. Small tables need no sort: a block sums
// its stretch of tokens into a table of its own.

struct GatherArgs { const int* ids; const void* table; void* y; i64 tokens, dim; int vocabulary, whole; };

// A warp per token. An id outside of the table gives a row of NaN: nobody on the device can be told otherwise.
template <typename T> __device__ __forceinline__ void embedding_gather(const GatherArgs& g)
{
    constexpr int N = Piece<T>::N;
    int lane = threadIdx.x & 31;
    i64 warps = (i64)gridDim.x * (blockDim.x >> 5);
    for (i64 token = (i64)blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5); token < g.tokens; token += warps)
    {
        int id = g.ids[token];
        T* y = (T*)g.y + token * g.dim;
        const T* row = (const T*)g.table + (i64)id * g.dim;
        if (id < 0 || id >= g.vocabulary)
            for (i64 i = lane; i < g.dim; i += 32) store(y, i, __uint_as_float(0x7FC00000u));
        else if (g.whole)
            for (i64 i = lane * N; i < g.dim; i += 32 * N) *reinterpret_cast<uint4*>(y + i) = *reinterpret_cast<const uint4*>(row + i);
        else
            for (i64 i = lane; i < g.dim; i += 32) y[i] = row[i];
    }
}

BOTH_TYPES(embedding_gather, GatherArgs, 256)

constexpr int WARPS = 8, DIGITS = 256, ROUNDS = 4, SORT_TILE = WARPS * ROUNDS * 32;
constexpr int CHUNK = 64;   // sorted tokens whose sum one block makes, of ids with more tokens than that

struct TableGradientArgs
{
    const int* ids;
    const int *keys_in, *tokens_in;     // null in the first pass, which reads the ids
    int *keys_out, *tokens_out;
    int* counts;                        // [DIGITS, blocks], then where each block's tokens of a digit go
    int *starts, *ends;                 // of each id in the sorted order; both 0 for ids without tokens
    float* partials;                    // [chunks, 2, dim]
    const void* dy;
    Target table;
    i64 dim;
    int tokens, blocks, shift, vocabulary, groups;
};

// Ids outside of the table come after all others and are nobody's.
__device__ __forceinline__ int key_of(const TableGradientArgs& g, int i)
{
    if (g.keys_in) return g.keys_in[i];
    int id = g.ids[i];
    return id >= 0 && id < g.vocabulary ? id : g.vocabulary;
}

// The lanes of a warp that have the same digit as this one, among those that have any.
__device__ __forceinline__ u32 peers(int digit, bool has_one)
{
    u32 mask = __ballot_sync(0xFFFFFFFFu, has_one);
#pragma unroll
    for (int bit = 0; bit < 8; bit++)
    {
        u32 ones = __ballot_sync(0xFFFFFFFFu, (digit >> bit) & 1);
        mask &= (digit >> bit) & 1 ? ones : ~ones;
    }
    return mask;
}

// Counts each warp's tokens by digit, in the warp's own row of shared memory.
__device__ __forceinline__ void count_digits(const TableGradientArgs& g, int (*counts)[DIGITS])
{
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    for (int d = lane; d < DIGITS; d += 32) counts[warp][d] = 0;
    __syncwarp();
    for (int round = 0; round < ROUNDS; round++)
    {
        int i = blockIdx.x * SORT_TILE + (warp * ROUNDS + round) * 32 + lane;
        bool has_one = i < g.tokens;
        int digit = has_one ? (key_of(g, i) >> g.shift) & (DIGITS - 1) : 0;
        u32 mask = peers(digit, has_one);
        if (has_one && (mask & ((1u << lane) - 1)) == 0) counts[warp][digit] += __popc(mask);
        __syncwarp();
    }
}

extern "C" __global__ void __launch_bounds__(256) embedding_count(const TableGradientArgs g)
{
    __shared__ int counts[WARPS][DIGITS];
    if (!g.keys_in)
        EACH(id, (i64)g.vocabulary + 1) { g.starts[id] = 0; g.ends[id] = 0; }
    count_digits(g, counts);
    __syncthreads();
    int sum = 0;
    for (int warp = 0; warp < WARPS; warp++) sum += counts[warp][threadIdx.x];
    g.counts[threadIdx.x * g.blocks + blockIdx.x] = sum;
}

// Exclusive prefix sums of all counts, by one block: each thread a stretch of its own.
extern "C" __global__ void __launch_bounds__(1024) embedding_offsets(const TableGradientArgs g)
{
    __shared__ int sums[32];
    int total = DIGITS * g.blocks, stretch = (total + 1023) / 1024, lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    int first = threadIdx.x * stretch, last = first + stretch < total ? first + stretch : total;
    int sum = 0;
    for (int i = first; i < last; i++) sum += g.counts[i];
    int running = sum;
    for (int d = 1; d < 32; d <<= 1)
    {
        int below = __shfl_up_sync(0xFFFFFFFFu, running, d);
        if (lane >= d) running += below;
    }
    if (lane == 31) sums[warp] = running;
    __syncthreads();
    int before = running - sum;
    for (int w = 0; w < warp; w++) before += sums[w];
    for (int i = first; i < last; i++)
    {
        int count = g.counts[i];
        g.counts[i] = before;
        before += count;
    }
}

extern "C" __global__ void __launch_bounds__(256) embedding_scatter(const TableGradientArgs g)
{
    __shared__ int places[WARPS][DIGITS];
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    count_digits(g, places);
    __syncthreads();
    int place = g.counts[threadIdx.x * g.blocks + blockIdx.x];
    for (int w = 0; w < WARPS; w++)
    {
        int count = places[w][threadIdx.x];
        places[w][threadIdx.x] = place;
        place += count;
    }
    __syncthreads();
    for (int round = 0; round < ROUNDS; round++)
    {
        int i = blockIdx.x * SORT_TILE + (warp * ROUNDS + round) * 32 + lane;
        bool has_one = i < g.tokens;
        int key = has_one ? key_of(g, i) : 0, digit = (key >> g.shift) & (DIGITS - 1);
        u32 mask = peers(digit, has_one);
        int rank = __popc(mask & ((1u << lane) - 1)), base = places[warp][digit];
        __syncwarp();
        if (has_one)
        {
            g.keys_out[base + rank] = key;
            g.tokens_out[base + rank] = g.tokens_in ? g.tokens_in[i] : i;
            if (rank == 0) places[warp][digit] = base + __popc(mask);
        }
        __syncwarp();
    }
}

// From here on keys_in and tokens_in are the sorted ones.
extern "C" __global__ void __launch_bounds__(256) embedding_ranges(const TableGradientArgs g)
{
    EACH(i, (i64)g.tokens)
    {
        int key = g.keys_in[i];
        if (i == 0 || g.keys_in[i - 1] != key) g.starts[key] = (int)i;
        if (i == g.tokens - 1 || g.keys_in[i + 1] != key) g.ends[key] = (int)i + 1;
    }
}

template <typename T, int N> __device__ __forceinline__ void load_some(float (&x)[N], const T* p)
{
    if constexpr (N == 1) x[0] = load(p, 0);
    else Piece<T>::load(x, p);
}

// The sum over sorted tokens [first, last) of columns [column, column + N).
template <typename T, int N> __device__ __forceinline__ void sum_tokens(float (&sum)[N], const TableGradientArgs& g, int first, int last, i64 column)
{
#pragma unroll 8
    for (int i = first; i < last; i++)
    {
        float x[N];
        load_some<T, N>(x, (const T*)g.dy + g.tokens_in[i] * g.dim + column);
#pragma unroll
        for (int j = 0; j < N; j++) sum[j] += x[j];
    }
}

// Sums of the first and of the last id in a chunk, where those have more tokens than a chunk: a block per chunk.
template <typename T, int N> __device__ __forceinline__ void chunk_sums(const TableGradientArgs& g)
{
    int first = blockIdx.x * CHUNK, last = first + CHUNK < g.tokens ? first + CHUNK : g.tokens;
    int head = g.keys_in[first], tail = g.keys_in[last - 1];
    int head_end = g.ends[head], tail_start = g.starts[tail];
    bool wants_head = head < g.vocabulary && head_end - g.starts[head] > CHUNK;
    bool wants_tail = tail != head && tail < g.vocabulary && g.ends[tail] - tail_start > CHUNK;
    for (i64 column = (i64)threadIdx.x * N; column < g.dim; column += blockDim.x * N)
        for (int side = 0; side < 2; side++)
        {
            if (!(side == 0 ? wants_head : wants_tail)) continue;
            float sum[N];
#pragma unroll
            for (int j = 0; j < N; j++) sum[j] = 0.f;
            if (side == 0) sum_tokens<T, N>(sum, g, first, head_end < last ? head_end : last, column);
            else sum_tokens<T, N>(sum, g, tail_start, last, column);
            float* to = g.partials + ((i64)blockIdx.x * 2 + side) * g.dim + column;
#pragma unroll
            for (int j = 0; j < N; j++) to[j] = sum[j];
        }
}

// A warp per row of the table and 32 pieces of it.
template <typename T, typename TTable, int N> __device__ __forceinline__ void table_rows(const TableGradientArgs& g)
{
    i64 item = (i64)blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5), id = item / g.groups;
    i64 column = ((item - id * g.groups) * 32 + (threadIdx.x & 31)) * N;
    if (id >= g.vocabulary || column >= g.dim) return;
    int start = g.starts[id], end = g.ends[id];
    if (start == end && g.table.accumulate) return;
    float sum[N];
#pragma unroll
    for (int j = 0; j < N; j++) sum[j] = 0.f;
    if (end - start <= CHUNK) sum_tokens<T, N>(sum, g, start, end, column);
    else
    {
        // The run of this id is the tail of the chunk it begins in, unless it begins with the chunk, and the head of all others.
        int chunk = start / CHUNK;
        const float* part = g.partials + ((i64)chunk * 2 + (start % CHUNK != 0)) * g.dim + column;
#pragma unroll
        for (int j = 0; j < N; j++) sum[j] = part[j];
#pragma unroll 8
        for (int c = chunk + 1; c <= (end - 1) / CHUNK; c++)
        {
            part = g.partials + (i64)c * 2 * g.dim + column;
#pragma unroll
            for (int j = 0; j < N; j++) sum[j] += part[j];
        }
    }

    i64 at = id * g.dim + column;
    if constexpr (N == 1) write<TTable>(g.table, at, sum[0]);
    else
    {
        constexpr int M = Piece<TTable>::N;
#pragma unroll
        for (int j = 0; j < N; j += M)
        {
            float piece[M];
#pragma unroll
            for (int k = 0; k < M; k++) piece[k] = sum[j + k];
            write_piece<TTable>(g.table, at + j, piece);
        }
    }
}

#define TABLE_GRADIENT(name, N_FLOAT, N_HALF)                                                                                                                        \
    extern "C" __global__ void __launch_bounds__(128) embedding_chunks##name##_float32(const TableGradientArgs g) { chunk_sums<float, N_FLOAT>(g); }                 \
    extern "C" __global__ void __launch_bounds__(128) embedding_chunks##name##_bfloat16(const TableGradientArgs g) { chunk_sums<bf16, N_HALF>(g); }                  \
    extern "C" __global__ void __launch_bounds__(128) embedding_rows##name##_float32(const TableGradientArgs g) { table_rows<float, float, N_FLOAT>(g); }            \
    extern "C" __global__ void __launch_bounds__(128) embedding_rows##name##_bfloat16(const TableGradientArgs g) { table_rows<bf16, bf16, N_HALF>(g); }              \
    extern "C" __global__ void __launch_bounds__(128) embedding_rows##name##_bfloat16_to_float32(const TableGradientArgs g) { table_rows<bf16, float, N_HALF>(g); }

TABLE_GRADIENT(, 1, 1)
TABLE_GRADIENT(_pieces, 4, 8)

// The gradient of a small table from each stretch of tokens: [blocks along x, vocabulary, dim]. A block has a table in shared memory, a thread a column of it,
// so that its sums are its own and in the order of the tokens.
struct TableSumsArgs { const int* ids; const void* dy; float* sums; i64 dim; int tokens, stretch, vocabulary; };
constexpr int COLUMNS = 128, AT_A_TIME = 16;   // columns of a block, and tokens that are on their way to it at the same time

template <typename T> __device__ __forceinline__ void embedding_sums(const TableSumsArgs& g)
{
    DYNAMIC_SHARED(room);
    float (*table)[COLUMNS] = reinterpret_cast<float (*)[COLUMNS]>(room);   // [vocabulary + 1]: what is nobody's goes to the last row
    const i64 place = (i64)blockIdx.y * COLUMNS + threadIdx.x, column = min(place, g.dim - 1);
    for (int id = 0; id <= g.vocabulary; id++) table[id][threadIdx.x] = 0.f;
    const int first = blockIdx.x * g.stretch, last = min(first + g.stretch, g.tokens);
    for (int start = first; start < last; start += AT_A_TIME)
    {
        int ids[AT_A_TIME];
        T x[AT_A_TIME];
#pragma unroll
        for (int i = 0; i < AT_A_TIME; i++)
        {
            const int token = min(start + i, last - 1);
            ids[i] = g.ids[token];
            x[i] = ((const T*)g.dy)[token * g.dim + column];
        }
        __syncwarp();   // the compiler would save registers and wait for each
#pragma unroll
        for (int i = 0; i < AT_A_TIME; i++)
        {
            const bool is_inside = start + i < last && ids[i] >= 0 && ids[i] < g.vocabulary;
            table[is_inside ? ids[i] : g.vocabulary][threadIdx.x] += load(&x[i], 0);
        }
    }
    if (place >= g.dim) return;
    for (int id = 0; id < g.vocabulary; id++) g.sums[((i64)blockIdx.x * g.vocabulary + id) * g.dim + column] = table[id][threadIdx.x];
}

BOTH_TYPES(embedding_sums, TableSumsArgs, COLUMNS)
