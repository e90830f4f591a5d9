#include "softmax_attention_common.cuh"

// Attention for every head size up to 256, float32 or bfloat16, in float32 arithmetic on the plain cores.
//
// A warp owns eight rows (queries; in the gradients of k and v: keys) and meets 32 columns (keys; queries) at a time. Scores: a lane is a column, reads it from
// shared memory and multiplies it with the warp's rows, which it reads as broadcasts. Products with the weights: a lane is an element of the result's rows.
// Rows of columns are padded to an odd number of 16-byte pieces, so that lanes reading pieces of different rows meet different banks.

constexpr int ROWS = 8, COLUMNS = 32;

__device__ __forceinline__ int row_floats(int width) { return (width + 3) & ~3; }
__device__ __forceinline__ int column_floats(int width) { return (((width + 3) >> 2) | 1) << 2; }

// `rows` rows of `width` elements, `stride` apart, to shared memory as floats; what is missing of rows and of the last piece becomes zero.
template <typename T> __device__ __forceinline__ void fetch(float* to, int ld, const T* from, i64 stride, int rows, int count, int width)
{
    int pieces = row_floats(width);
    for (int i = threadIdx.x; i < rows * pieces; i += blockDim.x)
    {
        int row = i / pieces, column = i % pieces;
        to[row * ld + column] = row < count && column < width ? load(from, row * stride + column) : 0.f;
    }
}

// dot[r] = rows[r] . column
__device__ __forceinline__ void dots(float (&dot)[ROWS], const float* rows, int ld, const float* column, int width)
{
#pragma unroll
    for (int r = 0; r < ROWS; r++) dot[r] = 0.f;
#pragma unroll 2
    for (int d = 0; d < width; d += 4)
    {
        float4 c = *reinterpret_cast<const float4*>(column + d);
#pragma unroll
        for (int r = 0; r < ROWS; r++)
        {
            float4 a = *reinterpret_cast<const float4*>(rows + r * ld + d);
            dot[r] += a.x * c.x;
            dot[r] += a.y * c.y;
            dot[r] += a.z * c.z;
            dot[r] += a.w * c.w;
        }
    }
}

// sum[r][c] += weights[r][j] columns[j][lane + 32 c] over the 32 columns j
template <int W> __device__ __forceinline__ void accumulate(float (&sum)[ROWS][W], const float* weights, const float* columns, int ld, int width, int lane)
{
    for (int j = 0; j < COLUMNS; j += 4)
    {
        float4 w[ROWS];
#pragma unroll
        for (int r = 0; r < ROWS; r++) w[r] = *reinterpret_cast<const float4*>(weights + r * COLUMNS + j);
#pragma unroll
        for (int c = 0; c < W; c++)
        {
            int at = lane + 32 * c;
            if (at >= width) continue;
            const float* x = columns + j * ld + at;
            float x0 = x[0], x1 = x[ld], x2 = x[2 * ld], x3 = x[3 * ld];
#pragma unroll
            for (int r = 0; r < ROWS; r++)
            {
                sum[r][c] += w[r].x * x0;
                sum[r][c] += w[r].y * x1;
                sum[r][c] += w[r].z * x2;
                sum[r][c] += w[r].w * x3;
            }
        }
    }
}

template <int W> __device__ __forceinline__ void clear(float (&sum)[ROWS][W])
{
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int c = 0; c < W; c++) sum[r][c] = 0.f;
}

template <typename T, int W> __device__ __forceinline__ void write_rows(const Target& to, i64 at, i64 stride, int count, int width, const float (&sum)[ROWS][W], float factor, int lane)
{
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int c = 0; c < W; c++)
            if (r < count && lane + 32 * c < width) write<T>(to, at + r * stride + lane + 32 * c, sum[r][c] * factor);
}

template <typename T, int W> __device__ __forceinline__ void forward(const AttentionArgs& g)
{
    DYNAMIC_SHARED(room);
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, rows = (blockDim.x >> 5) * ROWS;
    int ldq = row_floats(g.dim), ldk = column_floats(g.dim), ldv = column_floats(g.value_dim);
    float *sq = (float*)room, *sk = sq + rows * ldq, *sv = sk + COLUMNS * ldk, *weights = sv + COLUMNS * ldv + warp * ROWS * COLUMNS;

    AttentionTile tile = attention_tile(g.time, g.heads, rows, true);
    int kv_head = tile.head / (g.heads / g.kv_heads);
    i64 row0 = (i64)tile.batch * g.time, stride_k = (i64)g.kv_heads * g.dim, stride_v = (i64)g.kv_heads * g.value_dim;
    const T* k = (const T*)g.k + row0 * stride_k + (i64)kv_head * g.dim;
    const T* v = (const T*)g.v + row0 * stride_v + (i64)kv_head * g.value_dim;
    fetch(sq, ldq, (const T*)g.q + ((row0 + tile.first) * g.heads + tile.head) * g.dim, (i64)g.heads * g.dim, rows, tile.count, g.dim);

    int first = tile.first + warp * ROWS, end = tile.first + tile.count, start[ROWS];
    float most[ROWS], total[ROWS], sum[ROWS][W], score[ROWS], factor = g.scale * LOG2_E;
#pragma unroll
    for (int r = 0; r < ROWS; r++)
    {
        start[r] = document_start(g, first + r);
        most[r] = -infinity();
        total[r] = 0.f;
    }
    clear(sum);

    for (int key0 = document_start(g, tile.first); key0 < end; key0 += COLUMNS)
    {
        __syncthreads();
        fetch(sk, ldk, k + key0 * stride_k, stride_k, COLUMNS, end - key0, g.dim);
        fetch(sv, ldv, v + key0 * stride_v, stride_v, COLUMNS, end - key0, g.value_dim);
        __syncthreads();
        if (key0 > first + ROWS - 1) continue;

        dots(score, sq + warp * ROWS * ldq, ldq, sk + lane * ldk, g.dim);
        int key = key0 + lane;
#pragma unroll
        for (int r = 0; r < ROWS; r++)
        {
            float s = key <= first + r && key >= start[r] ? score[r] * factor : -infinity();
            float highest = fmaxf(most[r], warp_max(s));
            float base = highest == -infinity() ? 0.f : highest, p = exp2f(s - base), shrink = exp2f(most[r] - base);
            most[r] = highest;
            total[r] = total[r] * shrink + p;
            weights[r * COLUMNS + lane] = p;
#pragma unroll
            for (int c = 0; c < W; c++) sum[r][c] *= shrink;
        }
        __syncwarp();
        accumulate(sum, weights, sv, ldv, g.value_dim, lane);
    }

#pragma unroll
    for (int r = 0; r < ROWS; r++)
    {
        total[r] = warp_sum(total[r]);
        if (g.log_sums && lane == 0 && first + r < end) g.log_sums[((i64)tile.batch * g.heads + tile.head) * g.time + first + r] = most[r] + log2f(total[r]);
#pragma unroll
        for (int c = 0; c < W; c++) sum[r][c] /= total[r];
    }
    Target o = { g.o, 0 };
    write_rows<T>(o, ((row0 + first) * g.heads + tile.head) * g.value_dim, (i64)g.heads * g.value_dim, end - first, g.value_dim, sum, 1.f, lane);
}

// do . o of every query and head. `group` lanes, a power of two, take a row together.
template <typename T> __device__ __forceinline__ void attention_deltas(const AttentionArgs& g)
{
    constexpr int N = Piece<T>::N;
    int pieces = g.whole ? g.value_dim / N : 32, group = 1;
    while (group < pieces && group < 32) group *= 2;
    i64 rows = (i64)g.batch * g.time * g.heads, per_block = blockDim.x / group;
    int lane = threadIdx.x & (group - 1);
    for (i64 row0 = blockIdx.x * per_block; row0 < rows; row0 += gridDim.x * per_block)
    {
        i64 row = row0 + threadIdx.x / group;
        float sum = 0.f;
        if (row < rows)
        {
            const T *o = (const T*)g.o + row * g.value_dim, *d = (const T*)g.grad_o + row * g.value_dim;
            if (g.whole)
            {
                for (int i = lane * N; i < g.value_dim; i += group * N)
                {
                    float a[N], b[N];
                    Piece<T>::load(a, o + i);
                    Piece<T>::load(b, d + i);
#pragma unroll
                    for (int j = 0; j < N; j++) sum += a[j] * b[j];
                }
            }
            else
            {
                for (int i = lane; i < g.value_dim; i += group) sum += load(o, i) * load(d, i);
            }
        }
        for (int d = group >> 1; d > 0; d >>= 1) sum += __shfl_xor_sync(0xFFFFFFFFu, sum, d);
        if (row < rows && lane == 0)
        {
            i64 token = row / g.heads;
            g.deltas[((token / g.time) * g.heads + row % g.heads) * g.time + token % g.time] = sum;
        }
    }
}

// dq_t = scale sum_i p_ti (do_t . v_i - delta_t) k_i
template <typename T, int W> __device__ __forceinline__ void query_gradient(const AttentionArgs& g)
{
    DYNAMIC_SHARED(room);
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, rows = (blockDim.x >> 5) * ROWS;
    int ldq = row_floats(g.dim), ldo = row_floats(g.value_dim), ldk = column_floats(g.dim), ldv = column_floats(g.value_dim);
    float *sq = (float*)room, *so = sq + rows * ldq, *sk = so + rows * ldo, *sv = sk + COLUMNS * ldk, *weights = sv + COLUMNS * ldv + warp * ROWS * COLUMNS;

    AttentionTile tile = attention_tile(g.time, g.heads, rows, true);
    int kv_head = tile.head / (g.heads / g.kv_heads);
    i64 row0 = (i64)tile.batch * g.time, stride_k = (i64)g.kv_heads * g.dim, stride_v = (i64)g.kv_heads * g.value_dim;
    const T* k = (const T*)g.k + row0 * stride_k + (i64)kv_head * g.dim;
    const T* v = (const T*)g.v + row0 * stride_v + (i64)kv_head * g.value_dim;
    i64 row = (row0 + tile.first) * g.heads + tile.head;
    fetch(sq, ldq, (const T*)g.q + row * g.dim, (i64)g.heads * g.dim, rows, tile.count, g.dim);
    fetch(so, ldo, (const T*)g.grad_o + row * g.value_dim, (i64)g.heads * g.value_dim, rows, tile.count, g.value_dim);

    int first = tile.first + warp * ROWS, end = tile.first + tile.count, start[ROWS];
    float log_sum[ROWS], delta[ROWS], sum[ROWS][W], score[ROWS], weight[ROWS], factor = g.scale * LOG2_E;
    i64 scalars = ((i64)tile.batch * g.heads + tile.head) * g.time + first;
#pragma unroll
    for (int r = 0; r < ROWS; r++)
    {
        start[r] = document_start(g, first + r);
        log_sum[r] = first + r < end ? g.log_sums[scalars + r] : infinity();
        delta[r] = first + r < end ? g.deltas[scalars + r] : 0.f;
    }
    clear(sum);

    for (int key0 = document_start(g, tile.first); key0 < end; key0 += COLUMNS)
    {
        __syncthreads();
        fetch(sk, ldk, k + key0 * stride_k, stride_k, COLUMNS, end - key0, g.dim);
        fetch(sv, ldv, v + key0 * stride_v, stride_v, COLUMNS, end - key0, g.value_dim);
        __syncthreads();
        if (key0 > first + ROWS - 1) continue;

        dots(score, sq + warp * ROWS * ldq, ldq, sk + lane * ldk, g.dim);
        dots(weight, so + warp * ROWS * ldo, ldo, sv + lane * ldv, g.value_dim);
        int key = key0 + lane;
#pragma unroll
        for (int r = 0; r < ROWS; r++)
            weights[r * COLUMNS + lane] = key <= first + r && key >= start[r] ? exp2f(score[r] * factor - log_sum[r]) * (weight[r] - delta[r]) : 0.f;
        __syncwarp();
        accumulate(sum, weights, sk, ldk, g.dim, lane);
    }
    write_rows<T>(g.grad_q, ((row0 + first) * g.heads + tile.head) * g.dim, (i64)g.heads * g.dim, end - first, g.dim, sum, g.scale, lane);
}

// dv_i = sum_t p_ti do_t, dk_i = scale sum_t p_ti (do_t . v_i - delta_t) q_t, over the queries of all heads that share the key, head after head.
template <typename T, int W> __device__ __forceinline__ void key_gradients(const AttentionArgs& g)
{
    DYNAMIC_SHARED(room);
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, rows = (blockDim.x >> 5) * ROWS;
    int ldk = row_floats(g.dim), ldv = row_floats(g.value_dim), ldq = column_floats(g.dim), ldo = column_floats(g.value_dim);
    float *sk = (float*)room, *sv = sk + rows * ldk, *sq = sv + rows * ldv, *so = sq + COLUMNS * ldq, *weights = so + COLUMNS * ldo + warp * ROWS * COLUMNS;

    AttentionTile tile = attention_tile(g.time, g.kv_heads, rows, false);
    int group = g.heads / g.kv_heads, first = tile.first + warp * ROWS, last_query = document_end(g, tile.first + tile.count - 1), end[ROWS];
    i64 row0 = (i64)tile.batch * g.time, row = (row0 + tile.first) * g.kv_heads + tile.head, stride_q = (i64)g.heads * g.dim, stride_o = (i64)g.heads * g.value_dim;
    fetch(sk, ldk, (const T*)g.k + row * g.dim, (i64)g.kv_heads * g.dim, rows, tile.count, g.dim);
    fetch(sv, ldv, (const T*)g.v + row * g.value_dim, (i64)g.kv_heads * g.value_dim, rows, tile.count, g.value_dim);
    float sum_k[ROWS][W], sum_v[ROWS][W], score[ROWS], weight[ROWS], factor = g.scale * LOG2_E;
#pragma unroll
    for (int r = 0; r < ROWS; r++) end[r] = document_end(g, first + r);
    clear(sum_k);
    clear(sum_v);

    for (int head = tile.head * group; head < (tile.head + 1) * group; head++)
    {
        const T* q = (const T*)g.q + row0 * stride_q + (i64)head * g.dim;
        const T* grad_o = (const T*)g.grad_o + row0 * stride_o + (i64)head * g.value_dim;
        i64 scalars = ((i64)tile.batch * g.heads + head) * g.time;
        for (int query0 = tile.first; query0 < last_query; query0 += COLUMNS)
        {
            __syncthreads();
            fetch(sq, ldq, q + query0 * stride_q, stride_q, COLUMNS, last_query - query0, g.dim);
            fetch(so, ldo, grad_o + query0 * stride_o, stride_o, COLUMNS, last_query - query0, g.value_dim);
            __syncthreads();
            if (query0 + COLUMNS <= first) continue;

            int query = query0 + lane;
            float log_sum = query < last_query ? g.log_sums[scalars + query] : infinity(), delta = query < last_query ? g.deltas[scalars + query] : 0.f;
            dots(score, sk + warp * ROWS * ldk, ldk, sq + lane * ldq, g.dim);
            dots(weight, sv + warp * ROWS * ldv, ldv, so + lane * ldo, g.value_dim);
#pragma unroll
            for (int r = 0; r < ROWS; r++)
            {
                score[r] = first + r <= query && query < end[r] ? exp2f(score[r] * factor - log_sum) : 0.f;
                weights[r * COLUMNS + lane] = score[r];
            }
            __syncwarp();
            accumulate(sum_v, weights, so, ldo, g.value_dim, lane);
            __syncwarp();
#pragma unroll
            for (int r = 0; r < ROWS; r++) weights[r * COLUMNS + lane] = score[r] * (weight[r] - delta);
            __syncwarp();
            accumulate(sum_k, weights, sq, ldq, g.dim, lane);
            __syncwarp();
        }
    }

    i64 to = (row0 + first) * g.kv_heads + tile.head;
    int count = tile.first + tile.count - first;
    if (g.grad_k.to) write_rows<T>(g.grad_k, to * g.dim, (i64)g.kv_heads * g.dim, count, g.dim, sum_k, g.scale, lane);
    if (g.grad_v.to) write_rows<T>(g.grad_v, to * g.value_dim, (i64)g.kv_heads * g.value_dim, count, g.value_dim, sum_v, 1.f, lane);
}

template <typename T> __device__ __forceinline__ void attention_forward_64(const AttentionArgs& g) { forward<T, 2>(g); }
template <typename T> __device__ __forceinline__ void attention_forward_128(const AttentionArgs& g) { forward<T, 4>(g); }
template <typename T> __device__ __forceinline__ void attention_forward_256(const AttentionArgs& g) { forward<T, 8>(g); }
template <typename T> __device__ __forceinline__ void attention_query_gradient_64(const AttentionArgs& g) { query_gradient<T, 2>(g); }
template <typename T> __device__ __forceinline__ void attention_query_gradient_128(const AttentionArgs& g) { query_gradient<T, 4>(g); }
template <typename T> __device__ __forceinline__ void attention_query_gradient_256(const AttentionArgs& g) { query_gradient<T, 8>(g); }
template <typename T> __device__ __forceinline__ void attention_key_gradients_64(const AttentionArgs& g) { key_gradients<T, 2>(g); }
template <typename T> __device__ __forceinline__ void attention_key_gradients_128(const AttentionArgs& g) { key_gradients<T, 4>(g); }
template <typename T> __device__ __forceinline__ void attention_key_gradients_256(const AttentionArgs& g) { key_gradients<T, 8>(g); }

BOTH_TYPES(attention_forward_64, AttentionArgs, 256)
BOTH_TYPES(attention_forward_128, AttentionArgs, 256)
BOTH_TYPES(attention_forward_256, AttentionArgs, 256)
BOTH_TYPES(attention_deltas, AttentionArgs, 256)
BOTH_TYPES(attention_query_gradient_64, AttentionArgs, 256)
BOTH_TYPES(attention_query_gradient_128, AttentionArgs, 256)
BOTH_TYPES(attention_query_gradient_256, AttentionArgs, 256)
BOTH_TYPES(attention_key_gradients_64, AttentionArgs, 256)
BOTH_TYPES(attention_key_gradients_128, AttentionArgs, 256)
BOTH_TYPES(attention_key_gradients_256, AttentionArgs, 256)
