#include "elements.cuh"

// What the attention kernels share: the problem, the documents of a packed row, where rows lie. Scores are kept in base 2: s = (scale log2 e) q . k,
// p = 2^(s - L) with L the logarithm, base 2, of the sum over keys.

struct AttentionArgs
{
    const void *q, *k, *v;      // [batch, time, heads, dim], [batch, time, kv_heads, dim], [batch, time, kv_heads, value_dim]
    void* o;                    // [batch, time, heads, value_dim]
    float* log_sums;            // L [batch, heads, time], or null
    const void* grad_o;         // like o
    float* deltas;              // do . o [batch, heads, time]
    Target grad_q, grad_k, grad_v;
    const int* offsets;         // [documents + 1], or null for one document
    int documents, batch, time, heads, kv_heads, dim, value_dim, whole;
    float scale;
};

constexpr float LOG2_E = 1.44269504f;
__device__ __forceinline__ float infinity() { return __int_as_float(0x7F800000); }

// The document of token t: the last one that begins at or before it, so empty ones are passed over. Tokens past the end belong to the last document.
__device__ __forceinline__ int document_of(const AttentionArgs& g, int t)
{
    int low = 0, high = g.documents - 1;
    while (low < high)
    {
        int middle = (low + high + 1) >> 1;
        if (g.offsets[middle] <= t) low = middle;
        else high = middle - 1;
    }
    return low;
}
__device__ __forceinline__ int document_start(const AttentionArgs& g, int t) { return g.offsets ? g.offsets[document_of(g, t)] : 0; }
__device__ __forceinline__ int document_end(const AttentionArgs& g, int t) { return g.offsets ? g.offsets[document_of(g, t) + 1] : g.time; }

// A block's tile of tokens and its head. Tiles of one head follow each other, so that its keys and values stay in the caches; the longest work comes first.
struct AttentionTile { int batch, head, first, count; };
__device__ __forceinline__ AttentionTile attention_tile(int time, int heads, int rows, bool from_last)
{
    int tiles = (time + rows - 1) / rows, tile = blockIdx.x % tiles, row = blockIdx.x / tiles;
    if (from_last) tile = tiles - 1 - tile;
    AttentionTile t;
    t.batch = row / heads;
    t.head = row % heads;
    t.first = tile * rows;
    t.count = min(rows, time - t.first);
    return t;
}
