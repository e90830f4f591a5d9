#include "softmax_attention_common.cuh"
#include "mma.cuh"

// Attention in bfloat16 with heads of 64 or 128, on tensor cores; sums, softmax and gradients in float32.
//
// Four warps; a warp owns 16 rows (queries, or keys in their gradients) per m-tile and meets tiles of 64 columns that are copied ahead while it works.
// A tile of scores stays in registers: the accumulator of rows x columns is, packed, the left operand of the next product over those columns.
// Fragment of a 16 x 8 accumulator: row = lane / 4 (+ 8 for elements 2 and 3), column = 2 (lane % 4) + {0, 1}.
// Rows in shared memory are padded by 16 bytes: the eight rows that ldmatrix reads at a time then lie in different banks.

constexpr int COLUMNS = 64;

template <int D> constexpr int LD = D + 8;

// `rows` rows of D elements, `stride` apart, to shared memory; zeros from row `count` on.
template <int D> __device__ __forceinline__ void fetch(bf16* to, const bf16* from, i64 stride, int rows, int count)
{
    constexpr int PIECES = D / 8;
#pragma unroll 4
    for (int i = threadIdx.x; i < rows * PIECES; i += 128)
    {
        int row = i / PIECES, column = i % PIECES * 8;
        bool valid = row < count;
        cp16(to + row * LD<D> + column, from + (valid ? row : 0) * stride + column, valid);
    }
}

// s[rows 16 x columns 8 N] = a[row0.., D] b[column0.., D]^T, both row by row in shared memory.
template <int D, int M, int N> __device__ __forceinline__ void products(float (&s)[M][N][4], const bf16* a, int row0, const bf16* b, int column0, int lane)
{
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) s[m][n][i] = 0.f;
#pragma unroll
    for (int d = 0; d < D; d += 16)
    {
        u32 left[M][4];
#pragma unroll
        for (int m = 0; m < M; m++) load_a<LD<D>>(left[m], a, row0 + 16 * m, d, lane);
#pragma unroll
        for (int n = 0; n < N; n += 2)
        {
            u32 right[4];
            load_bt<LD<D>>(right, b, d, column0 + 8 * n, lane);
#pragma unroll
            for (int m = 0; m < M; m++)
            {
                mma(s[m][n], left[m], right[0], right[1]);
                mma(s[m][n + 1], left[m], right[2], right[3]);
            }
        }
    }
}

// sum[rows x D] += w[rows x columns] x[column0.., D], the weights rounded to bfloat16.
template <int D, int M, int N> __device__ __forceinline__ void accumulate(float (&sum)[M][D / 8][4], const float (&w)[M][N][4], const bf16* x, int column0, int lane)
{
#pragma unroll
    for (int k = 0; k < N; k += 2)
    {
        u32 left[M][4];
#pragma unroll
        for (int m = 0; m < M; m++)
        {
            left[m][0] = pack(w[m][k][0], w[m][k][1]);
            left[m][1] = pack(w[m][k][2], w[m][k][3]);
            left[m][2] = pack(w[m][k + 1][0], w[m][k + 1][1]);
            left[m][3] = pack(w[m][k + 1][2], w[m][k + 1][3]);
        }
#pragma unroll
        for (int n = 0; n < D / 8; n += 2)
        {
            u32 right[4];
            load_b<LD<D>>(right, x, column0 + 8 * k, 8 * n, lane);
#pragma unroll
            for (int m = 0; m < M; m++)
            {
                mma(sum[m][n], left[m], right[0], right[1]);
                mma(sum[m][n + 1], left[m], right[2], right[3]);
            }
        }
    }
}

// A warp's rows, through its part of shared memory, to pieces of 16 bytes in global memory; `count` of the 16 M rows exist.
template <int D, int M> __device__ __forceinline__ void write_rows(bf16* room, const float (&sum)[M][D / 8][4], float factor, const Target& to, i64 at, i64 stride, int count, int lane)
{
    int row = lane >> 2, column = (lane & 3) * 2;
    __syncwarp();
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < D / 8; n++)
#pragma unroll
            for (int half = 0; half < 2; half++)
                *reinterpret_cast<u32*>(room + (16 * m + row + 8 * half) * LD<D> + 8 * n + column) = pack(sum[m][n][2 * half] * factor, sum[m][n][2 * half + 1] * factor);
    __syncwarp();
    constexpr int PIECES = D / 8;
    for (int i = lane; i < 16 * M * PIECES; i += 32)
    {
        int r = i / PIECES, c = i % PIECES * 8;
        if (r >= count) continue;
        float x[8];
        Piece<bf16>::load(x, room + r * LD<D> + c);
        write_piece<bf16>(to, at + r * stride + c, x);
    }
}

template <int D, int M> __device__ __forceinline__ void clear(float (&sum)[M][D / 8][4])
{
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < D / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) sum[m][n][i] = 0.f;
}

// Hides from two queries (`query` and the one 8 later) the keys after them and those of earlier documents; `key` is the thread's first key.
template <int N> __device__ __forceinline__ void hide(const AttentionArgs& g, float (&s)[N][4], int query, int key)
{
#pragma unroll
    for (int half = 0; half < 2; half++)
    {
        int last = query + 8 * half, start = document_start(g, last);
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int i = 0; i < 2; i++)
                if (key + 8 * n + i > last || key + 8 * n + i < start) s[n][2 * half + i] = -infinity();
    }
}

// Shared memory: queries [64 M], two stages of keys and values [64] each. A warp has M m-tiles: what it reads of keys and values serves 16 M queries.
template <int D, int M> __device__ __forceinline__ void forward(const AttentionArgs& g)
{
    constexpr int ROWS = 64 * M, N = COLUMNS / 8, STAGE = COLUMNS * LD<D>;
    DYNAMIC_SHARED(room);
    bf16 *sq = (bf16*)room, *sk = sq + ROWS * LD<D>, *sv = sk + 2 * STAGE;
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, row = lane >> 2, column = (lane & 3) * 2;

    AttentionTile tile = attention_tile(g.time, g.heads, ROWS, true);
    i64 row0 = (i64)tile.batch * g.time, stride_q = (i64)g.heads * D, stride_k = (i64)g.kv_heads * D, kv_head = tile.head / (g.heads / g.kv_heads);
    int begin = document_start(g, tile.first), end = tile.first + tile.count, latest = document_start(g, end - 1), first = tile.first + 16 * M * warp;
    const bf16 *k = (const bf16*)g.k + row0 * stride_k + kv_head * D, *v = (const bf16*)g.v + row0 * stride_k + kv_head * D;
    fetch<D>(sq, (const bf16*)g.q + (row0 + tile.first) * stride_q + (i64)tile.head * D, stride_q, ROWS, tile.count);
    fetch<D>(sk, k + begin * stride_k, stride_k, COLUMNS, end - begin);
    fetch<D>(sv, v + begin * stride_k, stride_k, COLUMNS, end - begin);
    cp_commit();

    float sum[M][D / 8][4], most[M][2], total[M][2], factor = g.scale * LOG2_E;
    clear<D, M>(sum);
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int half = 0; half < 2; half++)
        {
            most[m][half] = -infinity();
            total[m][half] = 0.f;
        }

    int stage = 0;
    for (int key0 = begin; key0 < end; key0 += COLUMNS, stage ^= 1)
    {
        int next = key0 + COLUMNS;
        if (next < end)
        {
            fetch<D>(sk + (stage ^ 1) * STAGE, k + next * stride_k, stride_k, COLUMNS, end - next);
            fetch<D>(sv + (stage ^ 1) * STAGE, v + next * stride_k, stride_k, COLUMNS, end - next);
        }
        cp_commit();
        cp_wait<1>();
        __syncthreads();
        if (key0 < first + 16 * M)
        {
            float s[M][N][4];
            products<D, M, N>(s, sq, 16 * M * warp, sk + stage * STAGE, 0, lane);
            bool hides = key0 + COLUMNS - 1 > first || latest > key0;
#pragma unroll
            for (int m = 0; m < M; m++)
            {
#pragma unroll
                for (int n = 0; n < N; n++)
#pragma unroll
                    for (int i = 0; i < 4; i++) s[m][n][i] *= factor;
                if (hides) hide<N>(g, s[m], first + 16 * m + row, key0 + column);
                float highest[2] = { most[m][0], most[m][1] };
#pragma unroll
                for (int n = 0; n < N; n++)
#pragma unroll
                    for (int i = 0; i < 4; i++) highest[i >> 1] = fmaxf(highest[i >> 1], s[m][n][i]);
#pragma unroll
                for (int half = 0; half < 2; half++)
                {
                    highest[half] = fmaxf(highest[half], __shfl_xor_sync(0xFFFFFFFFu, highest[half], 1));
                    highest[half] = fmaxf(highest[half], __shfl_xor_sync(0xFFFFFFFFu, highest[half], 2));
                    // A query that has seen no key of its document yet keeps zeros.
                    float base = highest[half] == -infinity() ? 0.f : highest[half], shrink = exp2f(most[m][half] - base);
                    most[m][half] = highest[half];
                    float part = 0.f;
#pragma unroll
                    for (int n = 0; n < N; n++)
#pragma unroll
                        for (int i = 2 * half; i < 2 * half + 2; i++)
                        {
                            s[m][n][i] = exp2f(s[m][n][i] - base);
                            part += s[m][n][i];
                        }
                    total[m][half] = total[m][half] * shrink + part;
#pragma unroll
                    for (int n = 0; n < D / 8; n++)
                    {
                        sum[m][n][2 * half] *= shrink;
                        sum[m][n][2 * half + 1] *= shrink;
                    }
                }
            }
            accumulate<D, M, N>(sum, s, sv + stage * STAGE, 0, lane);
        }
        __syncthreads();
    }

    float* log_sums = g.log_sums + ((i64)tile.batch * g.heads + tile.head) * g.time;
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int half = 0; half < 2; half++)
        {
            float t = total[m][half];
            t += __shfl_xor_sync(0xFFFFFFFFu, t, 1);
            t += __shfl_xor_sync(0xFFFFFFFFu, t, 2);
            int query = first + 16 * m + row + 8 * half;
            if (g.log_sums && (lane & 3) == 0 && query < end) log_sums[query] = most[m][half] + log2f(t);
            t = 1.f / t;
#pragma unroll
            for (int n = 0; n < D / 8; n++)
            {
                sum[m][n][2 * half] *= t;
                sum[m][n][2 * half + 1] *= t;
            }
        }
    Target o = { g.o, 0 };
    write_rows<D, M>(sq + 16 * M * warp * LD<D>, sum, 1.f, o, (row0 + first) * stride_q + (i64)tile.head * D, stride_q, end - first, lane);
}

// dq_t = scale sum_i p_ti (do_t . v_i - delta_t) k_i. Shared memory: queries and do [64] each, two stages of keys and values [64] each.
template <int D> __device__ __forceinline__ void query_gradient(const AttentionArgs& g)
{
    constexpr int ROWS = 64, N = 4, STAGE = COLUMNS * LD<D>;
    DYNAMIC_SHARED(room);
    bf16 *sq = (bf16*)room, *so = sq + ROWS * LD<D>, *sk = so + ROWS * LD<D>, *sv = sk + 2 * STAGE;
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, row = lane >> 2, column = (lane & 3) * 2;

    AttentionTile tile = attention_tile(g.time, g.heads, ROWS, true);
    i64 row0 = (i64)tile.batch * g.time, stride_q = (i64)g.heads * D, stride_k = (i64)g.kv_heads * D, kv_head = tile.head / (g.heads / g.kv_heads);
    int begin = document_start(g, tile.first), end = tile.first + tile.count, latest = document_start(g, end - 1), first = tile.first + 16 * warp;
    const bf16 *k = (const bf16*)g.k + row0 * stride_k + kv_head * D, *v = (const bf16*)g.v + row0 * stride_k + kv_head * D;
    i64 at = (row0 + tile.first) * stride_q + (i64)tile.head * D;
    fetch<D>(sq, (const bf16*)g.q + at, stride_q, ROWS, tile.count);
    fetch<D>(so, (const bf16*)g.grad_o + at, stride_q, ROWS, tile.count);
    fetch<D>(sk, k + begin * stride_k, stride_k, COLUMNS, end - begin);
    fetch<D>(sv, v + begin * stride_k, stride_k, COLUMNS, end - begin);
    cp_commit();

    float sum[1][D / 8][4], log_sum[2], delta[2], factor = g.scale * LOG2_E;
    int start[2];
    clear<D, 1>(sum);
    i64 scalars = ((i64)tile.batch * g.heads + tile.head) * g.time;
#pragma unroll
    for (int half = 0; half < 2; half++)
    {
        int query = first + row + 8 * half;
        start[half] = document_start(g, query);
        log_sum[half] = query < end ? g.log_sums[scalars + query] : infinity();
        delta[half] = query < end ? g.deltas[scalars + query] : 0.f;
    }

    int stage = 0;
    for (int key0 = begin; key0 < end; key0 += COLUMNS, stage ^= 1)
    {
        int next = key0 + COLUMNS;
        if (next < end)
        {
            fetch<D>(sk + (stage ^ 1) * STAGE, k + next * stride_k, stride_k, COLUMNS, end - next);
            fetch<D>(sv + (stage ^ 1) * STAGE, v + next * stride_k, stride_k, COLUMNS, end - next);
        }
        cp_commit();
        cp_wait<1>();
        __syncthreads();
        bool hides = key0 + COLUMNS - 1 > first || latest > key0;
        for (int part = 0; part < COLUMNS && key0 + part < first + 16; part += 8 * N)
        {
            float s[1][N][4], w[1][N][4];
            products<D, 1, N>(s, sq, 16 * warp, sk + stage * STAGE, part, lane);
            products<D, 1, N>(w, so, 16 * warp, sv + stage * STAGE, part, lane);
#pragma unroll
            for (int n = 0; n < N; n++)
#pragma unroll
                for (int i = 0; i < 4; i++)
                {
                    int key = key0 + part + 8 * n + column + (i & 1), query = first + row + 8 * (i >> 1);
                    float p = exp2f(s[0][n][i] * factor - log_sum[i >> 1]);
                    if (hides && (key > query || key < start[i >> 1])) p = 0.f;
                    w[0][n][i] = p * (w[0][n][i] - delta[i >> 1]);
                }
            accumulate<D, 1, N>(sum, w, sk + stage * STAGE, part, lane);
        }
        __syncthreads();
    }
    write_rows<D, 1>(sq + 16 * warp * LD<D>, sum, g.scale, g.grad_q, (row0 + first) * stride_q + (i64)tile.head * D, stride_q, end - first, lane);
}

// dv_i = sum_t p_ti do_t, dk_i = scale sum_t p_ti (do_t . v_i - delta_t) q_t, over the queries of all heads that share the key, head after head.
// Shared memory: keys and values [64] each, two stages of queries, do [64] each and their scalars.
template <int D> __device__ __forceinline__ void key_gradients(const AttentionArgs& g)
{
    constexpr int ROWS = 64, N = 4, STAGE = COLUMNS * LD<D>;
    DYNAMIC_SHARED(room);
    bf16 *sk = (bf16*)room, *sv = sk + ROWS * LD<D>, *sq = sv + ROWS * LD<D>, *so = sq + 2 * STAGE;
    float* scalars = (float*)(so + 2 * STAGE);    // of each stage L [64], delta [64]
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, row = lane >> 2, column = (lane & 3) * 2;

    AttentionTile tile = attention_tile(g.time, g.kv_heads, ROWS, false);
    i64 row0 = (i64)tile.batch * g.time, stride_q = (i64)g.heads * D, stride_k = (i64)g.kv_heads * D, at = (row0 + tile.first) * stride_k + (i64)tile.head * D;
    int group = g.heads / g.kv_heads, first = tile.first + 16 * warp, last = tile.first + tile.count;
    int earliest = document_end(g, tile.first), last_query = document_end(g, last - 1), tiles = (last_query - tile.first + COLUMNS - 1) / COLUMNS;
    int end[2] = { document_end(g, first + row), document_end(g, first + row + 8) };
    fetch<D>(sk, (const bf16*)g.k + at, stride_k, ROWS, tile.count);
    fetch<D>(sv, (const bf16*)g.v + at, stride_k, ROWS, tile.count);

    // Step i: tile i % tiles of head i / tiles. Threads fetch one scalar each.
    float scalar = 0.f;
    auto prefetch = [&](int i, int stage)
    {
        i64 head = tile.head * group + i / tiles;
        int query0 = tile.first + i % tiles * COLUMNS, count = last_query - query0;
        i64 from = (row0 + query0) * stride_q + head * D;
        fetch<D>(sq + stage * STAGE, (const bf16*)g.q + from, stride_q, COLUMNS, count);
        fetch<D>(so + stage * STAGE, (const bf16*)g.grad_o + from, stride_q, COLUMNS, count);
        int t = threadIdx.x & 63;
        const float* source = threadIdx.x < 64 ? g.log_sums : g.deltas;
        scalar = t < count ? source[((i64)tile.batch * g.heads + head) * g.time + query0 + t] : threadIdx.x < 64 ? infinity() : 0.f;
    };
    prefetch(0, 0);
    scalars[threadIdx.x] = scalar;
    cp_commit();

    float sum_k[1][D / 8][4], sum_v[1][D / 8][4], factor = g.scale * LOG2_E;
    clear<D, 1>(sum_k);
    clear<D, 1>(sum_v);
    for (int i = 0, stage = 0; i < group * tiles; i++, stage ^= 1)
    {
        if (i + 1 < group * tiles) prefetch(i + 1, stage ^ 1);
        cp_commit();
        cp_wait<1>();
        __syncthreads();
        int query0 = tile.first + i % tiles * COLUMNS;
        bool hides = query0 < last || earliest < query0 + COLUMNS;
        for (int part = 0; part < COLUMNS; part += 8 * N)
        {
            if (query0 + part + 8 * N <= first) continue;
            float s[1][N][4], w[1][N][4];
            products<D, 1, N>(s, sk, 16 * warp, sq + stage * STAGE, part, lane);
            products<D, 1, N>(w, sv, 16 * warp, so + stage * STAGE, part, lane);
#pragma unroll
            for (int n = 0; n < N; n++)
            {
                const float* of_queries = scalars + stage * 128 + part + 8 * n + column;
                float2 log_sum = *reinterpret_cast<const float2*>(of_queries), delta = *reinterpret_cast<const float2*>(of_queries + 64);
#pragma unroll
                for (int j = 0; j < 4; j++)
                {
                    int query = query0 + part + 8 * n + column + (j & 1), key = first + row + 8 * (j >> 1);
                    float p = exp2f(s[0][n][j] * factor - (j & 1 ? log_sum.y : log_sum.x));
                    if (hides && (key > query || query >= end[j >> 1])) p = 0.f;
                    s[0][n][j] = p;
                    w[0][n][j] = p * (w[0][n][j] - (j & 1 ? delta.y : delta.x));
                }
            }
            accumulate<D, 1, N>(sum_v, s, so + stage * STAGE, part, lane);
            accumulate<D, 1, N>(sum_k, w, sq + stage * STAGE, part, lane);
        }
        scalars[(stage ^ 1) * 128 + threadIdx.x] = scalar;
        __syncthreads();
    }

    i64 to = (row0 + first) * stride_k + (i64)tile.head * D;
    if (g.grad_k.to) write_rows<D, 1>(sk + 16 * warp * LD<D>, sum_k, g.scale, g.grad_k, to, stride_k, last - first, lane);
    if (g.grad_v.to) write_rows<D, 1>(sv + 16 * warp * LD<D>, sum_v, 1.f, g.grad_v, to, stride_k, last - first, lane);
}

extern "C" __global__ void __launch_bounds__(128, 2) attention_mma_forward_64(const AttentionArgs g) { forward<64, 2>(g); }
extern "C" __global__ void __launch_bounds__(128, 2) attention_mma_forward_128(const AttentionArgs g) { forward<128, 2>(g); }
extern "C" __global__ void __launch_bounds__(128, 2) attention_mma_query_gradient_64(const AttentionArgs g) { query_gradient<64>(g); }
extern "C" __global__ void __launch_bounds__(128, 2) attention_mma_query_gradient_128(const AttentionArgs g) { query_gradient<128>(g); }
extern "C" __global__ void __launch_bounds__(128, 2) attention_mma_key_gradients_64(const AttentionArgs g) { key_gradients<64>(g); }
extern "C" __global__ void __launch_bounds__(128, 2) attention_mma_key_gradients_128(const AttentionArgs g) { key_gradients<128>(g); }
