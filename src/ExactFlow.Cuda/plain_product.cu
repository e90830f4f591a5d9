// C = alpha A B (+ C) (+ bias), one thread per element of C, 16 x 16 of them per block, operands passing through shared memory in 16 x 16 tiles.

typedef long long i64;

struct Operand { void* address; i64 row_step, column_step, batch_step, is_half; };
struct ProductArgs
{
    Operand a, b, c;
    const void* bias;
    int rows, columns, depth, batches, across;
    float alpha;
    int accumulate, bias_is_half;
};

static __device__ __forceinline__ float element(const void* p, i64 i, bool is_half)
{
    return is_half ? __uint_as_float((unsigned)((const unsigned short*)p)[i] << 16) : ((const float*)p)[i];
}

// To bfloat16, nearest and ties to even; a NaN stays one.
static __device__ __forceinline__ unsigned short half_of(float x)
{
    unsigned bits = __float_as_uint(x);
    return x == x ? (unsigned short)((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16) : (unsigned short)0x7FFF;
}

extern "C" __global__ void __launch_bounds__(256) plain_product(const ProductArgs g)
{
    __shared__ float a[16][17], b[16][17];
    int x = threadIdx.x & 15, y = threadIdx.x >> 4;
    int row0 = (int)(blockIdx.x / (unsigned)g.across) * 16, column0 = (int)(blockIdx.x % (unsigned)g.across) * 16;
    int row = row0 + y, column = column0 + x;
    for (int batch = blockIdx.y; batch < g.batches; batch += gridDim.y)
    {
        float sum = 0.f;
        for (int k0 = 0; k0 < g.depth; k0 += 16)
        {
            a[y][x] = row < g.rows && k0 + x < g.depth
                ? element(g.a.address, batch * g.a.batch_step + row * g.a.row_step + (k0 + x) * g.a.column_step, g.a.is_half != 0) : 0.f;
            b[y][x] = k0 + y < g.depth && column < g.columns
                ? element(g.b.address, batch * g.b.batch_step + (k0 + y) * g.b.row_step + column * g.b.column_step, g.b.is_half != 0) : 0.f;
            __syncthreads();
            for (int k = 0; k < 16; k++) sum += a[y][k] * b[k][x];
            __syncthreads();
        }

        if (row < g.rows && column < g.columns)
        {
            i64 at = batch * g.c.batch_step + row * g.c.row_step + column;
            float result = g.alpha * sum;
            if (g.accumulate) result += element(g.c.address, at, g.c.is_half != 0);
            if (g.bias) result += element(g.bias, column, g.bias_is_half != 0);
            if (g.c.is_half) ((unsigned short*)g.c.address)[at] = half_of(result);
            else ((float*)g.c.address)[at] = result;
        }
    }
}
