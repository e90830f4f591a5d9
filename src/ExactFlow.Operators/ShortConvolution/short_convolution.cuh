#include "activations.cuh"
#include "units.cuh"

// A thread has N neighbouring channels of a run of tokens. Tokens are counted over all rows; runs do not cross rows. A block covers 2^shift units of channels
// side by side and blockDim.x >> shift runs.
struct Layout
{
    const int* offsets;        // of packed documents in the one row, or null: every row is a sequence
    i64 time, runs, runs_per_row;
    int documents, run, channels, width, units, shift;
    i64 rows;
};

struct Sequence { i64 start, end, index; };

__device__ __forceinline__ int unit_of(const Layout& g) { return (int)(blockIdx.y << g.shift) + (int)(threadIdx.x & ((1u << g.shift) - 1)); }
__device__ __forceinline__ i64 run_of(const Layout& g) { return (i64)blockIdx.x * (blockDim.x >> g.shift) + (threadIdx.x >> g.shift); }

// Tokens [first, last) of a run in a row that ends with `row_end`.
struct Run { i64 first, last, row_end; };
__device__ __forceinline__ Run tokens_of(const Layout& g, i64 run)
{
    i64 row = run / g.runs_per_row, first = row * g.time + (run - row * g.runs_per_row) * g.run, row_end = (row + 1) * g.time;
    return { first, min(first + g.run, row_end), row_end };
}

// The sequence of a token: the row, or the first document that ends behind it.
__device__ __forceinline__ Sequence sequence_at(const Layout& g, i64 token)
{
    if (!g.offsets)
    {
        i64 row = token / g.time;
        return { row * g.time, (row + 1) * g.time, row };
    }
    int low = 0, high = g.documents - 1;
    while (low < high)
    {
        int middle = (low + high) >> 1;
        if (g.offsets[middle + 1] <= token) low = middle + 1;
        else high = middle;
    }
    return { g.offsets[low], g.offsets[low + 1], low };
}

// Goes on to the document of a token at or behind the end of this one; documents may be empty.
__device__ __forceinline__ void advance(const Layout& g, Sequence& s, i64 token)
{
    while (s.end <= token)
    {
        s.index++;
        s.start = s.end;
        s.end = g.offsets[s.index + 1];
    }
}

// The inputs of a token at or before one of sequence s; before its start those of the state [sequences][channels][width - 1], oldest first, or zero.
template <typename T, int N> __device__ __forceinline__ void input_at(const Layout& g, const T* x, const float* state, const Sequence& s, i64 token, int channel, float (&v)[N])
{
    if (token >= s.start)
    {
        load_unit(v, x + token * g.channels + channel);
        return;
    }
    const int kept = g.width - 1;
    const float* entry = state ? state + (s.index * g.channels + channel) * kept + (kept - (int)(s.start - token)) : nullptr;
#pragma unroll
    for (int j = 0; j < N; j++) v[j] = state ? entry[j * kept] : 0.f;
}

// N neighbouring channels as they lie in memory: what is read ahead of its use takes half the registers in bfloat16 that floats would.
template <typename T, int N> struct Unit;
template <typename T> struct Unit<T, 1>
{
    T value;
    __device__ __forceinline__ void read(const T* p) { value = *p; }
    __device__ __forceinline__ void open(float (&x)[1]) const { x[0] = load(&value, 0); }
};
template <> struct Unit<float, 4>
{
    float4 value;
    __device__ __forceinline__ void read(const float* p) { value = *reinterpret_cast<const float4*>(p); }
    __device__ __forceinline__ void open(float (&x)[4]) const { x[0] = value.x; x[1] = value.y; x[2] = value.z; x[3] = value.w; }
};
template <> struct Unit<bf16, 4>
{
    uint2 value;
    __device__ __forceinline__ void read(const bf16* p) { value = *reinterpret_cast<const uint2*>(p); }
    __device__ __forceinline__ void open(float (&x)[4]) const
    {
        x[0] = __uint_as_float(value.x << 16); x[1] = __uint_as_float(value.x & 0xFFFF0000u);
        x[2] = __uint_as_float(value.y << 16); x[3] = __uint_as_float(value.y & 0xFFFF0000u);
    }
};

// Four tokens of one or two tensors, and the four behind them, which are on their way while these are computed on.
template <typename T, int N> struct Ahead
{
    Unit<T, N> now[4], next[4];

    // Tokens [token, token + 4), as far as they lie before `stop`.
    __device__ __forceinline__ void fetch(const T* p, int channels, int token, int stop)
    {
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (token + i < stop) next[i].read(p + (i64)(token + i) * channels);
    }
    // The same with each address made from the last one: half the instructions, and more registers while the loads are sent.
    __device__ __forceinline__ void fetch_walking(const T* p, int channels, int token, int stop)
    {
        p += (i64)token * channels;
#pragma unroll
        for (int i = 0; i < 4; i++, p += channels)
            if (token + i < stop) next[i].read(p);
    }
    __device__ __forceinline__ void turn()
    {
#pragma unroll
        for (int i = 0; i < 4; i++) now[i] = next[i];
    }
};

// A filter of four taps over N channels, and the last three inputs of each.
template <int N> struct Window
{
    float taps[N][4], bias[N], oldest[N], older[N], old[N];

    __device__ __forceinline__ void load_filter(const float* weight, const float* biases, int channel)
    {
#pragma unroll
        for (int j = 0; j < N; j++)
        {
            Piece<float>::load(taps[j], weight + (channel + j) * 4ll);
            bias[j] = biases ? biases[channel + j] : 0.f;
        }
    }
    template <typename T> __device__ __forceinline__ void load_inputs(const Layout& g, const T* x, const float* state, const Sequence& s, i64 token, int channel)
    {
        input_at(g, x, state, s, token - 3, channel, oldest);
        input_at(g, x, state, s, token - 2, channel, older);
        input_at(g, x, state, s, token - 1, channel, old);
    }
    __device__ __forceinline__ float value(int j, float x) const
    {
        return fmaf(taps[j][3], x, fmaf(taps[j][2], old[j], fmaf(taps[j][1], older[j], fmaf(taps[j][0], oldest[j], bias[j]))));
    }
    __device__ __forceinline__ void push(int j, float x)
    {
        oldest[j] = older[j];
        older[j] = old[j];
        old[j] = x;
    }
};

// The sum over the LANES neighbouring lanes that hold a head.
template <int LANES> __device__ __forceinline__ float head_sum(float x)
{
#pragma unroll
    for (int d = LANES / 2; d > 0; d >>= 1) x += __shfl_xor_sync(0xFFFFFFFFu, x, d);
    return x;
}
