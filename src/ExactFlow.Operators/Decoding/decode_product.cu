#include "elements.cuh"
#include "mma.cuh"
#include "overlap.cuh"

// Products of a few rows with weight matrices, as a token of each of several sequences needs them: y[b, n] = sum_k x[b, k] w[n, k]. The weights are read
// once, and reading them is all the time there is to spend.
//
// mma.m16n8k16 takes 16 sequences as rows and 8 weight rows as columns. The order of k within a sum is free, so a lane's fragments are whatever 16 bytes
// it reads: in a unit of 32 values of k, lane (g, t) = (lane / 4, lane % 4) holds values 8 t .. 8 t + 7 of weight row g and of sequences g and g + 8, which
// are the operands of two products. Four lanes read 64 bytes of a row, and a warp reads its share of the row in one go.
//
// Weights do not depend on the kernel ahead, so a block asks for them before it waits for that one. They go by asynchronous copies into shared memory, of
// which a multiprocessor has room for the blocks of several kernels, while registers would be full with those of one. Each thread reads back what it has
// copied itself: no barrier.
//
// The eight warps of a block split k and add up in shared memory. An RMSNorm in front of the product costs one factor per sequence, applied to the sums: its
// weight is in x already, and the squares it needs come in pieces from the kernel that made x.

struct ProductPart { const bf16* weight; int rows, first_tile, column, unused; };
struct ProductArgs
{
    ProductPart parts[6];                 // weight matrices [rows, depth]; tiles of 8 rows, numbered through
    const bf16* x; i64 x_stride;          // [batch, x_stride], whole units, zeros beyond depth
    const float* squares;                 // [batch, square_count], pieces of the sums of squares, or null for no norm
    void* y; i64 y_stride;                // [batch, y_stride]
    float* residual; const float* next_norm; bf16* next_x; float* next_squares;
    int batch, depth, part_count, tiles, square_count;      // depth is a multiple of 8
    float norm_share, epsilon;                                 // 1 / width of the norm
};

// What becomes of the sums: stored as float32; gate and up combined as SiLU(gate) up; added to the residual stream, with what the next norm needs.
enum After { STORE, SWIGLU, RESIDUAL };

constexpr int WARPS = 8, THREADS = WARPS * 32;

__device__ __forceinline__ uint4 piece(const bf16* p, bool inside) { return inside ? *reinterpret_cast<const uint4*>(p) : make_uint4(0, 0, 0, 0); }

__device__ __forceinline__ int part_of(const ProductArgs& g, int tile)
{
    int part = 0;
    while (part + 1 < g.part_count && tile >= g.parts[part + 1].first_tile) part++;
    return part;
}

// A lane's part of the squares of sequence b, and the factor 1 / sqrt(mean(x^2) + epsilon) that the parts of all lanes make.
__device__ __forceinline__ float squares_of(const ProductArgs& g, int b, int lane)
{
    float sum = 0.f;
    if (g.squares != nullptr)
        for (int i = lane; i < g.square_count; i += 32) sum += g.squares[(i64)b * g.square_count + i];
    return sum;
}
__device__ __forceinline__ float norm_factor(const ProductArgs& g, float squares)
{
    return g.squares == nullptr ? 1.f : rsqrtf(warp_sum(squares) * g.norm_share + g.epsilon);
}

// The operands of a lane in one unit of k: of sequences group and group + 8 of every tile of 16. Eight sequences are half a tile.
template <int ROWS> struct Sequences
{
    static constexpr int TILES = (ROWS + 15) / 16, HALVES = ROWS == 8 ? 1 : 2;
    uint4 x[TILES][HALVES];

    __device__ __forceinline__ void load(const ProductArgs& g, int first, int k, bool inside)
    {
#pragma unroll
        for (int m = 0; m < TILES; m++)
#pragma unroll
            for (int h = 0; h < HALVES; h++)
            {
                int row = first + m * 16 + h * 8;
                x[m][h] = piece(g.x + row * g.x_stride + k, inside && row < g.batch);
            }
    }
    __device__ __forceinline__ void multiply(float (&d)[4], int m, uint4 w) const
    {
        uint4 low = x[m][0], high = HALVES == 2 ? x[m][HALVES - 1] : make_uint4(0, 0, 0, 0);
        u32 one[4] = {low.x, high.x, low.y, high.y}, two[4] = {low.z, high.z, low.w, high.w};
        mma(d, one, w.x, w.y);
        mma(d, two, w.z, w.w);
    }
};

// ROWS sequences times NT tiles of 8 weight rows. A thread keeps UNITS units of its share of k under way, and x for AHEAD of them: whatever has been
// multiplied is asked for anew, further on, at once.
template <int ROWS, int NT, int UNITS, int AFTER> __device__ __forceinline__ void decode_product(const ProductArgs& g)
{
    constexpr int N = NT * 8, AHEAD = ROWS == 8 ? (UNITS < 6 ? UNITS : 6) : 1, TILES = Sequences<ROWS>::TILES, HALVES = Sequences<ROWS>::HALVES;
    DYNAMIC_SHARED(shared);
    __shared__ float factors[ROWS];
    uint4* weights = (uint4*)shared + threadIdx.x;                     // [unit][tile][thread]
    float* sums = (float*)(shared + UNITS * NT * THREADS * 16);
    let_next_begin();
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, group = lane >> 2, k8 = (lane & 3) * 8;
    int first_tile = blockIdx.x * (AFTER == SWIGLU ? NT / 2 : NT), first_row = blockIdx.y * ROWS, rows = min(ROWS, g.batch - first_row);

    const bf16* w[NT];
#pragma unroll
    for (int j = 0; j < NT; j++)
    {
        int tile = first_tile + (AFTER == SWIGLU ? j / 2 : j);
        tile = tile < g.tiles ? tile : g.tiles - 1;
        const ProductPart& part = g.parts[AFTER == SWIGLU ? j & 1 : part_of(g, tile)];
        int row = (AFTER == SWIGLU ? tile : tile - part.first_tile) * 8 + group;
        w[j] = part.weight + (i64)(row < part.rows ? row : part.rows - 1) * g.depth + k8;
    }

    // Beyond its share a warp multiplies zeros.
    int units = (g.depth + 31) / 32, share = (units + WARPS - 1) / WARPS, begin = warp * share, end = min(units, begin + share);
    auto ask = [&](int slot, int unit)
    {
        bool inside = unit < end && unit * 32 + k8 < g.depth;
#pragma unroll
        for (int j = 0; j < NT; j++) cp16(weights + (slot * NT + j) * THREADS, w[j] + (inside ? unit * 32 : 0), inside);
        cp_commit();
    };
#pragma unroll
    for (int u = 0; u < UNITS; u++) ask(u, begin + u);

    // The first element this thread will add to.
    int column = first_tile * 8 + (threadIdx.x & 7), element = threadIdx.x >> 3;
    bool adds = AFTER == RESIDUAL && element < rows && column < g.parts[0].rows;
    float next_norm = adds ? g.next_norm[column] : 0.f;
    wait_for_previous();
    Sequences<ROWS> x[AHEAD];
#pragma unroll
    for (int u = 0; u < AHEAD; u++) x[u].load(g, first_row + group, (begin + u) * 32 + k8, begin + u < end);

    // What that element is so far, and the squares of the first sequence whose factor this warp makes, on their way while the sums are made.
    float old = adds ? g.residual[(i64)(first_row + element) * g.parts[0].rows + column] : 0.f;
    float squares = warp < rows ? squares_of(g, first_row + warp, lane) : 0.f;

    float d[TILES][NT][4];
#pragma unroll
    for (int m = 0; m < TILES; m++)
#pragma unroll
        for (int j = 0; j < NT; j++) d[m][j][0] = d[m][j][1] = d[m][j][2] = d[m][j][3] = 0.f;
    for (int unit = begin; unit < end; unit += UNITS)
#pragma unroll
        for (int u = 0; u < UNITS; u++)
        {
            Sequences<ROWS> now = x[u % AHEAD];
            x[u % AHEAD].load(g, first_row + group, (unit + u + AHEAD) * 32 + k8, unit + u + AHEAD < end);
            cp_wait<UNITS - 1>();
#pragma unroll
            for (int j = 0; j < NT; j++)
            {
                uint4 b = weights[(u * NT + j) * THREADS];
#pragma unroll
                for (int m = 0; m < TILES; m++) now.multiply(d[m][j], m, b);
            }
            ask(u, unit + u + UNITS);
        }
    for (int r = warp; r < rows; r += WARPS)
    {
        float factor = norm_factor(g, r == warp ? squares : squares_of(g, first_row + r, lane));
        if (lane == 0) factors[r] = factor;
    }

    // Sums [warp][sequence][weight row].
#pragma unroll
    for (int m = 0; m < TILES; m++)
#pragma unroll
        for (int j = 0; j < NT; j++)
#pragma unroll
            for (int h = 0; h < HALVES; h++)
                if (m * 16 + h * 8 < rows)
                    *reinterpret_cast<float2*>(sums + (warp * ROWS + m * 16 + h * 8 + group) * N + j * 8 + (lane & 3) * 2) = make_float2(d[m][j][h * 2], d[m][j][h * 2 + 1]);
    __syncthreads();

    constexpr int COLUMNS = AFTER == SWIGLU ? N / 2 : N;
    for (int i = threadIdx.x; i < (rows * COLUMNS + 31) / 32 * 32; i += WARPS * 32)
    {
        // Whole warps go through, for the sum over lanes below; lanes past the end work on the last element and store nothing.
        bool inside = i < rows * COLUMNS;
        int r = inside ? i / COLUMNS : rows - 1, c = i % COLUMNS, tile = first_tile + c / 8;
        i64 b = first_row + r;
        int at = r * N + (AFTER == SWIGLU ? c / 8 * 16 + c % 8 : c);
        float sum = 0.f, up = 0.f;
#pragma unroll
        for (int v = 0; v < WARPS; v++)
        {
            sum += sums[v * ROWS * N + at];
            if (AFTER == SWIGLU) up += sums[v * ROWS * N + at + 8];
        }
        inside = inside && tile < g.tiles;
        const ProductPart& part = g.parts[AFTER == STORE ? part_of(g, tile) : 0];
        int n = (tile - part.first_tile) * 8 + c % 8;
        inside = inside && n < part.rows;
        if (AFTER == STORE)
        {
            if (inside) ((float*)g.y)[b * g.y_stride + part.column + n] = sum * factors[r];
        }
        else if (AFTER == SWIGLU)
        {
            sum *= factors[r];
            up *= factors[r];
            if (inside) store((bf16*)g.y, b * g.y_stride + n, sum / (1.f + expf(-sum)) * up);
        }
        else
        {
            float x = 0.f;
            if (inside)
            {
                bool is_first = i == threadIdx.x;
                x = (is_first ? old : g.residual[b * part.rows + n]) + sum;
                g.residual[b * part.rows + n] = x;
                store(g.next_x, b * g.y_stride + n, x * (is_first ? next_norm : g.next_norm[n]));
            }
            float square = x * x;
            square += __shfl_xor_sync(0xFFFFFFFFu, square, 1);
            square += __shfl_xor_sync(0xFFFFFFFFu, square, 2);
            square += __shfl_xor_sync(0xFFFFFFFFu, square, 4);
            if (inside && c % 8 == 0) g.next_squares[b * g.tiles + tile] = square;
        }
    }
}

// The instances: sequences, tiles of weight rows, units of weights under way, blocks per multiprocessor. The host knows the first three.
#define PRODUCT(name, ROWS, NT, UNITS, BLOCKS, AFTER) \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) decode_##name##_##ROWS##x##NT##x##UNITS(const ProductArgs g) { decode_product<ROWS, NT, UNITS, AFTER>(g); }
#define PRODUCTS(ROWS, NT, UNITS, BLOCKS) \
    PRODUCT(store, ROWS, NT, UNITS, BLOCKS, STORE) \
    PRODUCT(swiglu, ROWS, NT, UNITS, BLOCKS, SWIGLU)

PRODUCTS(8, 2, 4, 4)
PRODUCTS(16, 2, 4, 3)
PRODUCTS(32, 4, 2, 2)
PRODUCTS(64, 4, 2, 1)
PRODUCT(store, 8, 1, 4, 4, STORE)
PRODUCT(residual, 8, 1, 4, 4, RESIDUAL)
PRODUCT(residual, 8, 1, 12, 4, RESIDUAL)
PRODUCT(residual, 16, 1, 4, 3, RESIDUAL)
PRODUCT(residual, 32, 1, 4, 2, RESIDUAL)
PRODUCT(residual, 64, 1, 4, 1, RESIDUAL)
