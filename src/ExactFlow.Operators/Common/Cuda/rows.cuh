#include "elements.cuh"
#include "mma.cuh"

// Rows that threads hold in registers: every element is loaded once, whatever is computed from its row.
//
// `lanes` threads share a row: a power of two up to 32, so that several rows lie in a warp and no barrier is needed, or a whole block of more than 32.
// A thread holds pieces lane, lane + lanes, lane + 2 lanes, … of its row: 16 bytes each, or single elements where rows are not made of such pieces.

// How a piece is kept, taken apart and written. VECTOR: 16 bytes, as they came; otherwise one element.
template <typename T, bool VECTOR> struct Cells;
template <> struct Cells<float, true>
{
    typedef float Element;
    typedef float4 Raw;
    static constexpr int N = 4;
    static __device__ __forceinline__ Raw zero() { return make_float4(0.f, 0.f, 0.f, 0.f); }
    static __device__ __forceinline__ Raw read(const float* p) { return *reinterpret_cast<const float4*>(p); }
    static __device__ __forceinline__ void open(Raw r, float (&x)[N]) { x[0] = r.x; x[1] = r.y; x[2] = r.z; x[3] = r.w; }
    static __device__ __forceinline__ void forget_opened(Raw&) {}
    static __device__ __forceinline__ Raw close(const float (&x)[N]) { return make_float4(x[0], x[1], x[2], x[3]); }
    static __device__ __forceinline__ void write(float* p, Raw r) { *reinterpret_cast<float4*>(p) = r; }
};
template <> struct Cells<bf16, true>
{
    typedef bf16 Element;
    typedef uint4 Raw;
    static constexpr int N = 8;
    static __device__ __forceinline__ Raw zero() { return make_uint4(0u, 0u, 0u, 0u); }
    static __device__ __forceinline__ Raw read(const bf16* p) { return *reinterpret_cast<const uint4*>(p); }
    static __device__ __forceinline__ void open(Raw r, float (&x)[N])
    {
        x[0] = __uint_as_float(r.x << 16); x[1] = __uint_as_float(r.x & 0xFFFF0000u);
        x[2] = __uint_as_float(r.y << 16); x[3] = __uint_as_float(r.y & 0xFFFF0000u);
        x[4] = __uint_as_float(r.z << 16); x[5] = __uint_as_float(r.z & 0xFFFF0000u);
        x[6] = __uint_as_float(r.w << 16); x[7] = __uint_as_float(r.w & 0xFFFF0000u);
    }
    // Makes the compiler open the piece once more where it is used next, instead of keeping twice the registers for its floats meanwhile.
    static __device__ __forceinline__ void forget_opened(Raw& r) { asm volatile("" : "+r"(r.x), "+r"(r.y), "+r"(r.z), "+r"(r.w)); }
    static __device__ __forceinline__ Raw close(const float (&x)[N])
    {
        return make_uint4(pack(x[0], x[1]), pack(x[2], x[3]), pack(x[4], x[5]), pack(x[6], x[7]));
    }
    static __device__ __forceinline__ void write(bf16* p, Raw r) { *reinterpret_cast<uint4*>(p) = r; }
};
template <typename T> struct Cells<T, false>
{
    typedef T Element;
    typedef float Raw;
    static constexpr int N = 1;
    static __device__ __forceinline__ Raw zero() { return 0.f; }
    static __device__ __forceinline__ Raw read(const T* p) { return load(p, 0); }
    static __device__ __forceinline__ void open(Raw r, float (&x)[1]) { x[0] = r; }
    static __device__ __forceinline__ Raw close(const float (&x)[1])
    {
        T rounded;
        store(&rounded, 0, x[0]);
        return load(&rounded, 0);
    }
    static __device__ __forceinline__ void write(T* p, Raw r) { store(p, 0, r); }
};

// A row's shape and its threads, and whether rows are fetched ahead (RowsAhead); the first members of every kernel's arguments (CudaRows).
struct Rows { i64 count; int dim, lanes, ahead; };

// Where a thread stands: its lane in its row, its row in the block, rows per block.
struct RowThread
{
    int lanes, lane, row, rows;
    __device__ __forceinline__ RowThread(const Rows& g)
    {
        lanes = g.lanes;
        bool wide = lanes > 32;
        lane = wide ? threadIdx.x : threadIdx.x & (lanes - 1);
        row = wide ? 0 : threadIdx.x / lanes;
        rows = wide ? 1 : blockDim.x / lanes;
    }
    // First element of this thread's piece p.
    template <typename C> __device__ __forceinline__ int at(int p) const { return (lane + p * lanes) * C::N; }
};

// The thread's pieces of a row of `dim` elements (0: of none); zeros beyond it.
template <typename C, int P> __device__ __forceinline__ void load_row(typename C::Raw (&raw)[P], const typename C::Element* row, const RowThread& t, int dim)
{
#pragma unroll
    for (int p = 0; p < P; p++) raw[p] = t.at<C>(p) < dim ? C::read(row + t.at<C>(p)) : C::zero();
}

// Rows of TENSORS tensors on their way to shared memory while those before them are computed on, so that the memory never waits for arithmetic. A thread
// fetches, awaits and takes its own pieces and no barrier is needed. Where the host gave no room (`ahead` 0) rows are loaded when they are taken.
template <typename C, int P, int TENSORS> struct RowsAhead
{
    static constexpr bool POSSIBLE = C::N > 1, ALWAYS = POSSIBLE && P == 2;     // the host finds room for short rows on every GPU
    unsigned char* room;        // [2][TENSORS][P][threads] pieces
    bool on;
    int turn;
    __device__ __forceinline__ RowsAhead(unsigned char* shared, const Rows& g) : room(shared), on(ALWAYS || (POSSIBLE && g.ahead != 0)), turn(1) {}
    __device__ __forceinline__ unsigned char* slot(int half, int tensor, int p) const
    {
        return room + (((half * TENSORS + tensor) * P + p) * (int)blockDim.x + (int)threadIdx.x) * 16;
    }
    // Part of the next row, of `dim` elements or of none. After the last tensor: send.
    __device__ __forceinline__ void fetch(int tensor, const typename C::Element* row, const RowThread& t, int dim) const
    {
        if constexpr (POSSIBLE)
        {
            if (!on) return;
#pragma unroll
            for (int p = 0; p < P; p++) cp16(slot(turn ^ 1, tensor, p), row + t.at<C>(p), t.at<C>(p) < dim);
        }
    }
    __device__ __forceinline__ void send() const { if (on) cp_commit(); }
    // The row sent last but one has arrived. The compiler moves no access over these warp barriers, as it might over the copies.
    __device__ __forceinline__ void arrive() const
    {
        if (on) cp_wait<1>();
        __syncwarp();
    }
    // On to the next row; what was taken of the one before may be overwritten.
    __device__ __forceinline__ void advance()
    {
        turn ^= 1;
        __syncwarp();
    }
    __device__ __forceinline__ void take(typename C::Raw (&raw)[P], int tensor, const typename C::Element* row, const RowThread& t, int dim) const
    {
        if constexpr (POSSIBLE)
        {
            if (on)
            {
#pragma unroll
                for (int p = 0; p < P; p++) raw[p] = *reinterpret_cast<const typename C::Raw*>(slot(turn, tensor, p));
                return;
            }
        }
        load_row<C, P>(raw, row, t, dim);
    }
    // The room is free for other uses.
    __device__ __forceinline__ void end() const
    {
        if (!on) return;
        cp_wait<0>();
        __syncthreads();
    }
};

template <typename C, int P> __device__ __forceinline__ void clear(float (&sums)[P][C::N])
{
#pragma unroll
    for (int p = 0; p < P; p++)
#pragma unroll
        for (int j = 0; j < C::N; j++) sums[p][j] = 0.f;
}

// N entries of a float32 vector with one per feature; ones where there is none.
template <typename C> __device__ __forceinline__ void load_feature(float (&w)[C::N], const float* vector, int i)
{
#pragma unroll
    for (int j = 0; j < C::N; j++) w[j] = 1.f;
    if (vector)
    {
        if (C::N == 1) w[0] = vector[i];
#pragma unroll
        for (int j = 0; j + 4 <= C::N; j += 4)
        {
            float4 v = *reinterpret_cast<const float4*>(vector + i + j);
            w[j] = v.x; w[j + 1] = v.y; w[j + 2] = v.z; w[j + 3] = v.w;
        }
    }
}

// A piece of a gradient, written or added to what is there; nothing when it is not wanted.
template <typename C> __device__ __forceinline__ void write_gradient(const Target& target, i64 i, float (&x)[C::N])
{
    if (!target.to) return;
    typename C::Element* to = (typename C::Element*)target.to + i;
    if (target.accumulate)
    {
        float old[C::N];
        C::open(C::read(to), old);
#pragma unroll
        for (int j = 0; j < C::N; j++) x[j] += old[j];
    }
    C::write(to, C::close(x));
}

// Sums over the threads of a row, to each of them. `room`: 64 floats of shared memory. All threads of the block call it.
__device__ __forceinline__ void row_sums(float& a, float& b, int lanes, float* room)
{
    if (lanes <= 32)
    {
        for (int d = lanes >> 1; d > 0; d >>= 1)
        {
            a += __shfl_xor_sync(0xFFFFFFFFu, a, d);
            b += __shfl_xor_sync(0xFFFFFFFFu, b, d);
        }
        return;
    }
    a = warp_sum(a);
    b = warp_sum(b);
    if ((threadIdx.x & 31) == 0)
    {
        room[threadIdx.x >> 5] = a;
        room[32 + (threadIdx.x >> 5)] = b;
    }
    __syncthreads();
    a = 0.f;
    b = 0.f;
    for (int w = 0; w < lanes >> 5; w++)
    {
        a += room[w];
        b += room[32 + w];
    }
    __syncthreads();
}
__device__ __forceinline__ float row_sum(float a, int lanes, float* room)
{
    if (lanes > 32) return block_sum(a, room);
    for (int d = lanes >> 1; d > 0; d >>= 1) a += __shfl_xor_sync(0xFFFFFFFFu, a, d);
    return a;
}

// What the threads of a block have summed for their columns, added up over the rows of the block in a fixed order into `partial` [dim].
// `room`: dim floats of dynamic shared memory per warp, used where rows share a warp. All threads of the block call it.
template <typename C, int P> __device__ __forceinline__ void store_columns(float (&sums)[P][C::N], const RowThread& t, int dim, float* partial, float* room)
{
    bool wide = t.lanes > 32;
    float* to = wide ? partial : room + (threadIdx.x >> 5) * dim;
    for (int d = t.lanes; d < 32; d <<= 1)   // all sums a step further, so that none waits for another's shuffles
#pragma unroll
        for (int p = 0; p < P; p++)
#pragma unroll
            for (int j = 0; j < C::N; j++) sums[p][j] += __shfl_xor_sync(0xFFFFFFFFu, sums[p][j], d);
#pragma unroll
    for (int p = 0; p < P; p++)
    {
        int i = t.at<C>(p);
#pragma unroll
        for (int j = 0; j < C::N; j++)
            if (i < dim && (wide || (threadIdx.x & 31) < t.lanes)) to[i + j] = sums[p][j];
    }
    if (wide) return;
    __syncthreads();
    for (int c = threadIdx.x; c < dim; c += blockDim.x)
    {
        float total = 0.f;
        for (int w = 0; w < (int)(blockDim.x >> 5); w++) total += room[w * dim + c];
        partial[c] = total;
    }
    __syncthreads();
}

// The instances of a kernel template `name<T, pieces per thread, VECTOR>(const Args&)`; CudaRows chooses among them. Short rows lie within warps, in blocks
// of up to 256 threads, of which as many fit on a multiprocessor as CudaRows counts on when blocks take turns with the rows.
#define ROW_KERNELS(name, Args)                                                                                                  \
    extern "C" __global__ void __launch_bounds__(256, 3) name##_short_float32(const Args g) { name<float, 2, true>(g); }         \
    extern "C" __global__ void __launch_bounds__(256, 3) name##_short_bfloat16(const Args g) { name<bf16, 2, true>(g); }         \
    extern "C" __global__ void __launch_bounds__(512) name##_long_float32(const Args g) { name<float, 4, true>(g); }             \
    extern "C" __global__ void __launch_bounds__(512) name##_long_bfloat16(const Args g) { name<bf16, 4, true>(g); }             \
    extern "C" __global__ void __launch_bounds__(1024) name##_odd_float32(const Args g) { name<float, 8, false>(g); }            \
    extern "C" __global__ void __launch_bounds__(1024) name##_odd_bfloat16(const Args g) { name<bf16, 8, false>(g); }
