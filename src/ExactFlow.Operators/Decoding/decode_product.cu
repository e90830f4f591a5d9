#include "elements.cuh"
#include "mma.cuh"
#include "overlap.cuh"

// Products of a few rows with weight matrices, as a token of each of several sequences needs them: y[b, n] = sum_k x[b, k] w[n, k]. The weights are read
// once, and reading them is all the time there is to spend, so they go from memory straight into the registers of the tensor cores.
//
// mma.m16n8k16 takes 16 sequences as rows and 8 weight rows as columns. The order of k within a sum is free, so a lane's fragments are whatever 16 bytes
// it reads: in a unit of 32 values of k, lane (g, t) = (lane / 4, lane % 4) holds values 8 t .. 8 t + 7 of weight row g and of sequences g and g + 8, which
// are the operands of two products. Four lanes read 64 bytes of a row, and a warp reads its share of the row in one go.
//
// The eight warps of a block split k and add up in shared memory. An RMSNorm in front of the product costs one factor per sequence, applied to the sums: its
// weight is in x already, and the squares it needs come in pieces from the kernel that made x.

struct ProductPart { const bf16* weight; int rows, first_tile, column, unused; };
struct ProductArgs
{
    ProductPart parts[6];                 // weight matrices [rows, depth]; tiles of 8 rows, numbered through
    const bf16* x; i64 x_stride;          // [batch, x_stride], zeros beyond depth
    const float* squares;                 // [batch, square_count], pieces of the sums of squares, or null for no norm
    void* y; i64 y_stride;                // [batch, y_stride]
    float* residual; const float* next_norm; bf16* next_x; float* next_squares;
    int batch, depth, part_count, tiles, square_count, norm_width;
    float epsilon;
};

// What becomes of the sums: stored as float32; gate and up combined as SiLU(gate) up; added to the residual stream, with what the next norm needs.
enum After { STORE, SWIGLU, RESIDUAL };

constexpr int WARPS = 8;

// Eight values from k on; zeros beyond the depth.
__device__ __forceinline__ uint4 piece(const bf16* row, int k, int depth)
{
    if ((depth & 7) == 0) return k < depth ? *reinterpret_cast<const uint4*>(row + k) : make_uint4(0, 0, 0, 0);
    u32 v[8];
#pragma unroll
    for (int i = 0; i < 8; i++) v[i] = k + i < depth ? (u32)row[k + i].bits : 0u;
    return make_uint4(v[0] | v[1] << 16, v[2] | v[3] << 16, v[4] | v[5] << 16, v[6] | v[7] << 16);
}

__device__ __forceinline__ int part_of(const ProductArgs& g, int tile)
{
    int part = 0;
    while (part + 1 < g.part_count && tile >= g.parts[part + 1].first_tile) part++;
    return part;
}

// x[b] / sqrt(mean(x^2) + epsilon): the factor of sequence b, by a warp.
__device__ __forceinline__ float norm_factor(const ProductArgs& g, int b, int lane)
{
    if (g.squares == nullptr) return 1.f;
    float sum = 0.f;
    for (int i = lane; i < g.square_count; i += 32) sum += g.squares[(i64)b * g.square_count + i];
    return 1.f / sqrtf(warp_sum(sum) / g.norm_width + g.epsilon);
}

// MT tiles of 16 sequences times NT tiles of 8 weight rows.
template <int MT, int NT, int AFTER> __device__ __forceinline__ void decode_product(const ProductArgs& g)
{
    constexpr int M = MT * 16, N = NT * 8, UNITS = NT <= 2 ? 4 : 2;
    DYNAMIC_SHARED(shared);
    __shared__ float factors[M];
    float* sums = (float*)shared;
    let_next_begin();
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, group = lane >> 2, k8 = (lane & 3) * 8;
    int first_tile = blockIdx.x * (AFTER == SWIGLU ? NT / 2 : NT), first_row = blockIdx.y * M;

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

    int units = (g.depth + 31) / 32, share = (units + WARPS - 1) / WARPS, begin = warp * share, end = min(units, begin + share);
    uint4 fetched[UNITS][NT];
#pragma unroll
    for (int u = 0; u < UNITS; u++)
#pragma unroll
        for (int j = 0; j < NT; j++)
            if (begin + u < end) fetched[u][j] = piece(w[j], (begin + u) * 32, g.depth - k8);
    wait_for_previous();

    float d[MT][NT][4];
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int j = 0; j < NT; j++) d[m][j][0] = d[m][j][1] = d[m][j][2] = d[m][j][3] = 0.f;
    for (int unit = begin; unit < end; unit += UNITS)
    {
        uint4 b[UNITS][NT];
#pragma unroll
        for (int u = 0; u < UNITS; u++)
#pragma unroll
            for (int j = 0; j < NT; j++)
            {
                b[u][j] = fetched[u][j];
                if (unit + UNITS + u < end) fetched[u][j] = piece(w[j], (unit + UNITS + u) * 32, g.depth - k8);
            }
#pragma unroll
        for (int u = 0; u < UNITS; u++)
        {
            if (unit + u >= end) break;
#pragma unroll
            for (int m = 0; m < MT; m++)
            {
                int low = first_row + m * 16 + group, high = low + 8;
                const bf16* x = g.x + (unit + u) * 32 + k8;
                uint4 a = low < g.batch ? *reinterpret_cast<const uint4*>(x + low * g.x_stride) : make_uint4(0, 0, 0, 0);
                uint4 c = high < g.batch ? *reinterpret_cast<const uint4*>(x + high * g.x_stride) : make_uint4(0, 0, 0, 0);
                u32 one[4] = {a.x, c.x, a.y, c.y}, two[4] = {a.z, c.z, a.w, c.w};
#pragma unroll
                for (int j = 0; j < NT; j++)
                {
                    mma(d[m][j], one, b[u][j].x, b[u][j].y);
                    mma(d[m][j], two, b[u][j].z, b[u][j].w);
                }
            }
        }
    }

    // Sums [warp][sequence][weight row].
    int rows = min(M, g.batch - first_row);
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int j = 0; j < NT; j++)
#pragma unroll
            for (int half = 0; half < 2; half++)
                if (m * 16 + half * 8 < rows)
                    *reinterpret_cast<float2*>(sums + (warp * M + m * 16 + half * 8 + group) * N + j * 8 + (lane & 3) * 2) = make_float2(d[m][j][half * 2], d[m][j][half * 2 + 1]);
    for (int r = warp; r < rows; r += WARPS)
    {
        float factor = norm_factor(g, first_row + r, lane);
        if (lane == 0) factors[r] = factor;
    }
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
            sum += sums[v * M * N + at];
            if (AFTER == SWIGLU) up += sums[v * M * N + at + 8];
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
                x = g.residual[b * part.rows + n] + sum;
                g.residual[b * part.rows + n] = x;
                store(g.next_x, b * g.y_stride + n, x * g.next_norm[n]);
            }
            float square = x * x;
            square += __shfl_xor_sync(0xFFFFFFFFu, square, 1);
            square += __shfl_xor_sync(0xFFFFFFFFu, square, 2);
            square += __shfl_xor_sync(0xFFFFFFFFu, square, 4);
            if (inside && c % 8 == 0) g.next_squares[b * g.tiles + tile] = square;
        }
    }
}

// Three blocks per multiprocessor while sequences are few, so that enough reads are under way.
#define PRODUCT(name, MT, NT, AFTER) \
    extern "C" __global__ void __launch_bounds__(WARPS * 32, MT == 1 ? 3 : 1) decode_##name##_##MT##x##NT(const ProductArgs g) { decode_product<MT, NT, AFTER>(g); }
#define PRODUCTS(MT, NT) \
    PRODUCT(store, MT, NT, STORE) \
    PRODUCT(swiglu, MT, NT, SWIGLU)

PRODUCTS(1, 2)
PRODUCTS(2, 4)
PRODUCTS(4, 4)
PRODUCT(store, 1, 1, STORE)
PRODUCT(residual, 1, 1, RESIDUAL)
PRODUCT(residual, 2, 1, RESIDUAL)
PRODUCT(residual, 4, 1, RESIDUAL)
