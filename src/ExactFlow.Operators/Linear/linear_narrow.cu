#include "elements.cuh"
#include "mma.cuh"

// Several matrices times one input of few columns, bfloat16 with float32 sums: y_i = x W_i^T, dx (+)= sum_i dy_i W_i, dW_i (+)= dy_i^T x.
// K is the input's width rounded up to 64 or 128. Rows, columns and outputs past the end are zeros in shared memory and are not stored; all widths are multiples of 8.
// Outputs are gone through in chunks, none of which spans two matrices. 256 threads, 8 warps as 4 groups of 32 rows by 2 of columns.

constexpr int THREADS = 256, ROWS = 128, CHUNK = 64, MOST_PARTS = 8, FOLD_LANES = 4;
constexpr int STAGE_LD = 40, WIDE_STAGE_LD = 36;   // a warp's 32 x 32 results on their way to memory, as bf16 and as float32; rows 16 bytes apart in the banks

struct Part { const bf16* weight; bf16* y; Target gradient; i64 outputs, wide; };   // y or its gradient; where the weight's gradient goes, float32 if `wide`
struct NarrowArgs { const bf16* x; Target dx; float* partial; i64 rows, inputs, outputs, chunks, split, splits; Part parts[MOST_PARTS]; };

struct Chunk { int part, first, width, before; };   // `before` counts the outputs of the matrices in front of this one
template <int SIZE> __device__ __forceinline__ Chunk chunk_at(const NarrowArgs& g, int index)
{
    Chunk c = { 0, index * SIZE, 0, 0 };
    int outputs = (int)g.parts[0].outputs;
    while (c.first >= outputs)
    {
        c.first -= (outputs + SIZE - 1) / SIZE * SIZE;
        c.before += outputs;
        outputs = (int)g.parts[++c.part].outputs;
    }
    c.width = min(outputs - c.first, SIZE);
    return c;
}

// R x C elements of rows `stride` apart to shared memory rows LD apart, by the whole block; zeros past `rows` and `columns`.
template <int R, int C, int LD> __device__ __forceinline__ void fetch(bf16* to, const bf16* from, int stride, int rows, int columns)
{
    constexpr int PIECES = C / 8;
#pragma unroll
    for (int i = 0; i < R * PIECES / THREADS; i++)
    {
        const int at = threadIdx.x + i * THREADS, r = at / PIECES, c = at % PIECES * 8;
        const bool ok = r < rows && c < columns;
        cp16(to + r * LD + c, from + (ok ? r * stride + c : 0), ok);
    }
}

// y_i = x W_i^T. A block has 128 rows of x, as fragments in registers, and goes through chunks of 64 outputs; the next chunk's weights are on their way meanwhile.
template <int K> __device__ __forceinline__ void forward(const NarrowArgs& g)
{
    constexpr int LD = K + 8, STEPS = K / 16, STAGE = 32 * STAGE_LD, TILE_X = ROWS * LD > 8 * STAGE ? ROWS * LD : 8 * STAGE;
    DYNAMIC_SHARED(memory);
    bf16 *tile = reinterpret_cast<bf16*>(memory), *weights = tile + TILE_X;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, row0 = (warp >> 1) * 32, column0 = (warp & 1) * 32;
    bf16* stage = tile + warp * STAGE;
    const i64 first = (i64)blockIdx.x * ROWS;
    const int inputs = (int)g.inputs, rows = (int)min((i64)ROWS, g.rows - first);

    Chunk now = chunk_at<CHUNK>(g, blockIdx.y);
    fetch<ROWS, K, LD>(tile, g.x + first * inputs, inputs, rows, inputs);
    fetch<CHUNK, K, LD>(weights, g.parts[now.part].weight + (i64)now.first * inputs, inputs, now.width, inputs);
    cp_commit();
    cp_wait<0>();
    __syncthreads();
    u32 a[2][STEPS][4];
#pragma unroll
    for (int m = 0; m < 2; m++)
#pragma unroll
        for (int s = 0; s < STEPS; s++) load_a<LD>(a[m][s], tile, row0 + m * 16, s * 16, lane);

    int turn = 0;
    for (int chunk = blockIdx.y; chunk < g.chunks; chunk += gridDim.y, turn ^= 1)
    {
        // Behind the barrier these weights have arrived, those of the turn before are read, and nobody reads x or an older result from `tile`.
        cp_wait<0>();
        __syncthreads();
        const Chunk here = now;
        const bf16* w = weights + turn * CHUNK * LD;
        if (chunk + (int)gridDim.y < g.chunks)
        {
            now = chunk_at<CHUNK>(g, chunk + gridDim.y);
            fetch<CHUNK, K, LD>(weights + (turn ^ 1) * CHUNK * LD, g.parts[now.part].weight + (i64)now.first * inputs, inputs, now.width, inputs);
        }
        cp_commit();
        if (column0 >= here.width) continue;

        // 16 columns after the other: fewer sums beside the fragments of x.
#pragma unroll
        for (int n = 0; n < 2; n++)
        {
            float d[2][2][4] = {};
#pragma unroll
            for (int s = 0; s < STEPS; s++)
            {
                u32 b[4];
                load_bt<LD>(b, w, s * 16, column0 + n * 16, lane);
#pragma unroll
                for (int m = 0; m < 2; m++)
                {
                    mma(d[m][0], a[m][s], b[0], b[1]);
                    mma(d[m][1], a[m][s], b[2], b[3]);
                }
            }
#pragma unroll
            for (int m = 0; m < 2; m++)
#pragma unroll
                for (int j = 0; j < 2; j++)
#pragma unroll
                    for (int half = 0; half < 2; half++)
                        *reinterpret_cast<u32*>(stage + (m * 16 + half * 8 + (lane >> 2)) * STAGE_LD + n * 16 + j * 8 + (lane & 3) * 2)
                            = pack(d[m][j][half * 2], d[m][j][half * 2 + 1]);
        }
        __syncwarp();
        const int outputs = (int)g.parts[here.part].outputs;
        bf16* y = g.parts[here.part].y + (first + row0) * outputs + here.first + column0;
#pragma unroll
        for (int i = 0; i < 4; i++)
        {
            const int at = lane + i * 32, r = at >> 2, c = (at & 3) * 8;
            if (row0 + r < rows && column0 + c < here.width) *reinterpret_cast<uint4*>(y + r * outputs + c) = *reinterpret_cast<const uint4*>(stage + r * STAGE_LD + c);
        }
    }
}

// dx (+)= sum_i dy_i W_i, rounded once. A block keeps the sums of 128 rows and K columns in registers and goes through all chunks of 64 outputs.
template <int K> __device__ __forceinline__ void input_gradient(const NarrowArgs& g)
{
    constexpr int LD = K + 8, DY_LD = CHUNK + 8, BUFFER = ROWS * DY_LD + CHUNK * LD, PAIRS = K / 32;
    DYNAMIC_SHARED(memory);
    bf16* buffers = reinterpret_cast<bf16*>(memory);
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, row0 = (warp >> 1) * 32, column0 = (warp & 1) * (K / 2);
    const i64 first = (i64)blockIdx.x * ROWS;
    const int inputs = (int)g.inputs, rows = (int)min((i64)ROWS, g.rows - first), before = blockIdx.y * K, columns = inputs - before;   // of these columns
    auto bring = [&](const Chunk& c, bf16* to)
    {
        const Part& part = g.parts[c.part];
        fetch<ROWS, CHUNK, DY_LD>(to, part.y + first * part.outputs + c.first, (int)part.outputs, rows, c.width);
        fetch<CHUNK, K, LD>(to + ROWS * DY_LD, part.weight + (i64)c.first * inputs + before, inputs, c.width, columns);
    };

    Chunk now = chunk_at<CHUNK>(g, 0);
    bring(now, buffers);
    cp_commit();
    float d[2][PAIRS * 2][4] = {};
    for (int chunk = 0, turn = 0; chunk < g.chunks; chunk++, turn ^= 1)
    {
        cp_wait<0>();
        __syncthreads();
        const int width = now.width;
        const bf16 *dy = buffers + turn * BUFFER, *w = dy + ROWS * DY_LD;
        if (chunk + 1 < g.chunks) bring(now = chunk_at<CHUNK>(g, chunk + 1), buffers + (turn ^ 1) * BUFFER);
        cp_commit();
#pragma unroll
        for (int s = 0; s < CHUNK / 16; s++)
        {
            if (s * 16 >= width) break;
            u32 a[2][4];
#pragma unroll
            for (int m = 0; m < 2; m++) load_a<DY_LD>(a[m], dy, row0 + m * 16, s * 16, lane);
#pragma unroll
            for (int n = 0; n < PAIRS; n++)
            {
                u32 b[4];
                load_b<LD>(b, w, s * 16, column0 + n * 16, lane);
#pragma unroll
                for (int m = 0; m < 2; m++)
                {
                    mma(d[m][n * 2], a[m], b[0], b[1]);
                    mma(d[m][n * 2 + 1], a[m], b[2], b[3]);
                }
            }
        }
    }

    // The sums wait in float32 for what they are added to: 32 columns of the warp at a time, in the buffers' place.
    __syncthreads();
    float* stage = reinterpret_cast<float*>(memory) + warp * 32 * WIDE_STAGE_LD;
    const Target dx = g.dx;
#pragma unroll
    for (int group = 0; group < PAIRS / 2; group++)
    {
#pragma unroll
        for (int m = 0; m < 2; m++)
#pragma unroll
            for (int n = 0; n < 4; n++)
#pragma unroll
                for (int half = 0; half < 2; half++)
                    *reinterpret_cast<float2*>(stage + (m * 16 + half * 8 + (lane >> 2)) * WIDE_STAGE_LD + n * 8 + (lane & 3) * 2)
                        = make_float2(d[m][group * 4 + n][half * 2], d[m][group * 4 + n][half * 2 + 1]);
        __syncwarp();
#pragma unroll
        for (int i = 0; i < 4; i++)
        {
            const int at = lane + i * 32, r = at >> 2, c = (at & 3) * 8, column = column0 + group * 32 + c;
            if (row0 + r >= rows || column >= columns) continue;
            float low[4], high[4];
            Piece<float>::load(low, stage + r * WIDE_STAGE_LD + c);
            Piece<float>::load(high, stage + r * WIDE_STAGE_LD + c + 4);
            float x[8] = { low[0], low[1], low[2], low[3], high[0], high[1], high[2], high[3] };
            write_piece<bf16>(dx, (first + row0 + r) * inputs + before + column, x);
        }
        __syncwarp();
    }
}

// Sums of dy_i^T x over the rows of a split: block (split, chunk of 128 outputs) to partial[split][outputs of all][inputs].
template <int K> __device__ __forceinline__ void weight_gradients(const NarrowArgs& g)
{
    constexpr int OUTPUTS = 128, DEPTH = 64, LD = K + 8, DY_LD = OUTPUTS + 8, BUFFER = DEPTH * (DY_LD + LD), PAIRS = K / 32;
    DYNAMIC_SHARED(memory);
    bf16* buffers = reinterpret_cast<bf16*>(memory);
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, output0 = (warp >> 1) * 32, column0 = (warp & 1) * (K / 2);
    const int inputs = (int)g.inputs;
    const Chunk chunk = chunk_at<OUTPUTS>(g, blockIdx.y);
    const i64 outputs = g.parts[chunk.part].outputs, begin = (i64)blockIdx.x * g.split, end = min(begin + g.split, g.rows);
    const bf16* dy = g.parts[chunk.part].y + chunk.first;
    auto bring = [&](i64 row, bf16* to)
    {
        const int rows = (int)min((i64)DEPTH, end - row);
        fetch<DEPTH, OUTPUTS, DY_LD>(to, dy + row * outputs, (int)outputs, rows, chunk.width);
        fetch<DEPTH, K, LD>(to + DEPTH * DY_LD, g.x + row * inputs, inputs, rows, inputs);
    };

    bring(begin, buffers);
    cp_commit();
    float d[2][PAIRS * 2][4] = {};
    int turn = 0;
    for (i64 row = begin; row < end; row += DEPTH, turn ^= 1)
    {
        cp_wait<0>();
        __syncthreads();
        if (row + DEPTH < end) bring(row + DEPTH, buffers + (turn ^ 1) * BUFFER);
        cp_commit();
        if (output0 >= chunk.width) continue;
        const bf16 *a_tile = buffers + turn * BUFFER, *b_tile = a_tile + DEPTH * DY_LD;
#pragma unroll
        for (int s = 0; s < DEPTH / 16; s++)
        {
            u32 a[2][4];
#pragma unroll
            for (int m = 0; m < 2; m++) load_at<DY_LD>(a[m], a_tile, output0 + m * 16, s * 16, lane);
#pragma unroll
            for (int n = 0; n < PAIRS; n++)
            {
                u32 b[4];
                load_b<LD>(b, b_tile, s * 16, column0 + n * 16, lane);
#pragma unroll
                for (int m = 0; m < 2; m++)
                {
                    mma(d[m][n * 2], a[m], b[0], b[1]);
                    mma(d[m][n * 2 + 1], a[m], b[2], b[3]);
                }
            }
        }
    }

    float* to = g.partial + ((i64)blockIdx.x * g.outputs + chunk.before + chunk.first) * inputs;
#pragma unroll
    for (int m = 0; m < 2; m++)
#pragma unroll
        for (int half = 0; half < 2; half++)
        {
            const int output = output0 + m * 16 + half * 8 + (lane >> 2);
            if (output >= chunk.width) continue;
#pragma unroll
            for (int n = 0; n < PAIRS * 2; n++)
            {
                const int column = column0 + n * 8 + (lane & 3) * 2;
                if (column < inputs) *reinterpret_cast<float2*>(to + (i64)output * inputs + column) = make_float2(d[m][n][half * 2], d[m][n][half * 2 + 1]);
            }
        }
}

#define WIDTHS(name, K) extern "C" __global__ void __launch_bounds__(THREADS, 2) linear_narrow_##name##_##K(const NarrowArgs g) { name<K>(g); }

WIDTHS(forward, 64)
WIDTHS(forward, 128)
WIDTHS(input_gradient, 64)
WIDTHS(weight_gradients, 64)
WIDTHS(weight_gradients, 128)

// Adds up, always in the same order, what the splits left: four threads share four columns next to each other, then the first of them adds up those four sums.
extern "C" __global__ void __launch_bounds__(THREADS) linear_narrow_fold(const NarrowArgs g)
{
    constexpr int GROUPS = THREADS / FOLD_LANES, AT_A_TIME = 8;
    __shared__ float4 room[FOLD_LANES][GROUPS];
    const int group = threadIdx.x % GROUPS, lane = threadIdx.x / GROUPS, splits = (int)g.splits;
    const i64 count = g.outputs * g.inputs, at = ((i64)blockIdx.x * GROUPS + group) * 4;
    const float* from = g.partial + min(at, count - 4);
    float4 sum = make_float4(0.f, 0.f, 0.f, 0.f);
    for (int start = lane; start < splits; start += AT_A_TIME * FOLD_LANES)
    {
        float4 x[AT_A_TIME];
#pragma unroll
        for (int i = 0; i < AT_A_TIME; i++) x[i] = *reinterpret_cast<const float4*>(from + min(start + i * FOLD_LANES, splits - 1) * count);
        __syncwarp();   // the compiler would save registers and wait for each
#pragma unroll
        for (int i = 0; i < AT_A_TIME; i++)
            if (start + i * FOLD_LANES < splits) sum = make_float4(sum.x + x[i].x, sum.y + x[i].y, sum.z + x[i].z, sum.w + x[i].w);
    }
    room[lane][group] = sum;
    __syncthreads();
    if (lane > 0 || at >= count) return;
    for (int i = 1; i < FOLD_LANES; i++) sum = make_float4(sum.x + room[i][group].x, sum.y + room[i][group].y, sum.z + room[i][group].z, sum.w + room[i][group].w);

    int part = 0;
    i64 within = at;
    while (within >= g.parts[part].outputs * g.inputs) within -= g.parts[part++].outputs * g.inputs;
    const Target to = g.parts[part].gradient;
    const float x[4] = { sum.x, sum.y, sum.z, sum.w };
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (g.parts[part].wide) write<float>(to, within + i, x[i]);
        else write<bf16>(to, within + i, x[i]);
}
