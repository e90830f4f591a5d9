using ExactFlow.Tensors;
using ExactFlow.Tensors.Memory;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Operators;

public static unsafe partial class ShortConvolution
{
    /// <summary>Channels that one index of a loop works on: whole rows up to this width, so that memory is read front to back.</summary>
    private const int ChannelBlock = 4096;

    /// <summary>Channels that the kernels of four tokens pass over one after the other, so that what one writes is in the first-level cache for the next.</summary>
    private const int CachedChannels = 256;

    /// <summary>
    /// Floats between rows of working memory beyond their length: rows 4096 bytes apart would compete for the same few lines of the first-level cache.
    /// </summary>
    private const int Spread = 48;

    private const int RingStride = ChannelBlock + Spread;

    private static void Forward(
        CpuDevice device, Tensor x, Tensor weight, Tensor? bias, bool silu, Tensor? state, SequenceOffsets? offsets, Tensor y)
    {
        int channels = x.Shape[2];
        int width = weight.Shape[1];
        long carried = state is null ? 0 : state.Count;
        int stride = channels + Spread;
        using var scratch = new Scratch(device, (((width + 1L) * stride) + carried) * sizeof(float));
        float* taps = scratch.Floats;
        float* history = taps + ((long)width * stride);
        Transpose(weight.Floats, channels, width, taps, stride);
        float* zeros = history;
        new Span<float>(zeros, channels).Clear();
        if (state is not null)
        {
            history += stride;
            for (int sequence = 0; sequence < state.Shape[0]; sequence++)
            {
                long first = (long)sequence * channels * (width - 1);
                Transpose(state.Floats + first, channels, width - 1, history + first, channels);
            }
        }

        var tiles = Tiles.Of(x, offsets, width, tokensPerTile: Math.Max(1, 16 * 1024 / channels));
        fixed (int* documents = tiles.Documents(offsets))
        {
            tiles.Offsets = documents;
            Simd.For(
                device.Workers,
                tiles.Count,
                new ForwardBody
                {
                    Tiles = tiles,
                    Silu = silu,
                    X = x.Floats,
                    Taps = taps,
                    TapStride = stride,
                    Bias = bias is null ? zeros : bias.Floats,
                    History = history,
                    HistoryStride = state is null ? 0 : channels,
                    Y = y.Floats,
                });
        }

        if (state is not null)
        {
            Carry(x, state, offsets);
        }
    }

    /// <summary>Replaces each sequence's state by the last width - 1 inputs of state and x together.</summary>
    private static void Carry(Tensor x, Tensor state, SequenceOffsets? offsets)
    {
        int channels = x.Shape[2];
        int kept = state.Shape[2];
        for (int sequence = 0; sequence < state.Shape[0]; sequence++)
        {
            long start = offsets is null ? (long)sequence * x.Shape[1] : offsets.Start(sequence);
            int length = offsets is null ? x.Shape[1] : offsets.End(sequence) - offsets.Start(sequence);
            float* inputs = x.Floats + ((start + length - kept) * channels);
            for (int channel = 0; channel < channels; channel++)
            {
                float* entries = state.Floats + ((((long)sequence * channels) + channel) * kept);
                for (int i = 0; i < kept; i++)
                {
                    entries[i] = i + length < kept ? entries[i + length] : inputs[((long)i * channels) + channel];
                }
            }
        }
    }

    private static void Backward(
        CpuDevice device,
        Tensor x,
        Tensor weight,
        Tensor? bias,
        bool silu,
        SequenceOffsets? offsets,
        Tensor outputGradient,
        GradientTarget inputGradient,
        GradientTarget weightGradient,
        GradientTarget biasGradient)
    {
        int channels = x.Shape[2];
        int width = weight.Shape[1];
        long tokens = x.Shape.RowCount();
        var tiles = Tiles.Of(x, offsets, width, tokensPerTile: (int)Math.Max((tokens + 63) / 64, 64));
        int stride = channels + Spread;
        long sumsPerTile = (width + 1L) * stride;
        long ring = (width + 4L) * RingStride;
        using var scratch = new Scratch(
            device, (((width + 1L) * stride) + (device.Workers.WorkerCount * ring) + ((tiles.PerChannelBlock + 1) * sumsPerTile)) * sizeof(float));
        float* taps = scratch.Floats;
        float* zeros = taps + ((long)width * stride);
        float* rings = zeros + stride;
        float* partial = rings + (device.Workers.WorkerCount * ring);
        float* sums = partial + (tiles.PerChannelBlock * sumsPerTile);
        Transpose(weight.Floats, channels, width, taps, stride);
        new Span<float>(zeros, channels).Clear();
        fixed (int* documents = tiles.Documents(offsets))
        {
            tiles.Offsets = documents;
            Simd.For(
                device.Workers,
                tiles.Count,
                new BackwardBody
                {
                    Tiles = tiles,
                    Silu = silu,
                    X = x.Floats,
                    Taps = taps,
                    Stride = stride,
                    Bias = bias is null ? zeros : bias.Floats,
                    Zeros = zeros,
                    OutputGradient = outputGradient.Floats,
                    InputGradient = inputGradient,
                    Rings = rings,
                    Partial = partial,
                });
        }

        RowSums.Fold(device, partial, tiles.PerChannelBlock, sumsPerTile, checked((int)sumsPerTile), sums, accumulate: false);
        WriteFilterGradient(sums, stride, channels, width, weightGradient, biasGradient);
    }

    private static void WriteFilterGradient(float* sums, int stride, int channels, int width, GradientTarget weightGradient, GradientTarget biasGradient)
    {
        for (int channel = 0; channel < channels; channel++)
        {
            for (int tap = 0; weightGradient.IsWanted && tap < width; tap++)
            {
                float* target = weightGradient.Address + ((long)channel * width) + tap;
                float value = sums[((long)tap * stride) + channel];
                *target = weightGradient.Accumulate ? *target + value : value;
            }

            if (biasGradient.IsWanted)
            {
                float value = sums[((long)width * stride) + channel];
                biasGradient.Address[channel] = biasGradient.Accumulate ? biasGradient.Address[channel] + value : value;
            }
        }
    }

    private static void Transpose(float* source, int rows, int columns, float* destination, int stride)
    {
        for (int row = 0; row < rows; row++)
        {
            for (int column = 0; column < columns; column++)
            {
                destination[((long)column * stride) + row] = source[((long)row * columns) + column];
            }
        }
    }

    private struct ForwardBody : IVectorBody
    {
        public Tiles Tiles;
        public bool Silu;
        public float* X;
        public float* Taps;
        public int TapStride;
        public float* Bias;
        public float* History;
        public long HistoryStride;
        public float* Y;

        public readonly void Run<TV>(int index, int worker)
            where TV : struct, IFloatVector<TV>
        {
            Tile tile = Tiles[index];
            int channels = Tiles.Channels;
            int before = Tiles.Width - 1;
            long firstToken = (long)tile.Row * Tiles.Time;
            for (int token = tile.Start; token < tile.End;)
            {
                (int number, int start, int end) = Tiles.SequenceAt(tile.Row, token);
                float* history = History + ((long)number * before * HistoryStride) + tile.Channel;
                for (int last = Math.Min(end, tile.End); token < last;)
                {
                    float* y = Y + ((firstToken + token) * channels) + tile.Channel;
                    var window = new Window
                    {
                        History = history + ((token - start) * HistoryStride),
                        HistoryStride = HistoryStride,
                        Early = Math.Max(0, before - (token - start)),
                        Inputs = X + ((firstToken + token - before) * channels) + tile.Channel,
                        Stride = channels,
                    };
                    token += RunTokens<TV>(window, tile, last - token, y);
                }
            }
        }

        /// <summary>Four tokens where the fast kernel can, else one. Returns how many.</summary>
        private readonly int RunTokens<TV>(in Window window, in Tile tile, int left, float* y)
            where TV : struct, IFloatVector<TV>
        {
            long stride = window.Stride;
            float* taps = Taps + tile.Channel;
            float* bias = Bias + tile.Channel;
            if (Tiles.Width == 4 && window.Early == 0 && left >= 4)
            {
                for (int i = 0; i < tile.ChannelCount; i += CachedChannels)
                {
                    int count = Math.Min(CachedChannels, tile.ChannelCount - i);
                    float* z = y + i;
                    Rows.FourTokens<TV>(window.Inputs + i, stride, taps + i, TapStride, bias + i, z, z + stride, z + (2 * stride), z + (3 * stride), count);
                    for (int token = 0; Silu && token < 4; token++)
                    {
                        Rows.Silu<TV>(z + (token * stride), count);
                    }
                }

                return 4;
            }

            Rows.PreActivation<TV>(window, Tiles.Width, taps, TapStride, bias, y, tile.ChannelCount);
            if (Silu)
            {
                Rows.Silu<TV>(y, tile.ChannelCount);
            }

            return 1;
        }
    }

    private struct BackwardBody : IVectorBody
    {
        public Tiles Tiles;
        public bool Silu;
        public float* X;
        public float* Taps;

        /// <summary>Floats between the rows of the filter, and of the sums.</summary>
        public int Stride;
        public float* Bias;
        public float* Zeros;
        public float* OutputGradient;
        public GradientTarget InputGradient;
        public float* Rings;
        public float* Partial;

        /// <summary>Rows of the ring: what a filter reaches, and three more for tokens that come four at a time.</summary>
        private readonly int RingRows => Tiles.Width + 4;

        public readonly void Run<TV>(int index, int worker)
            where TV : struct, IFloatVector<TV>
        {
            Tile tile = Tiles[index];
            float* sums = Partial + (tile.Number * (Tiles.Width + 1L) * Stride) + tile.Channel;
            for (int tap = 0; tap <= Tiles.Width; tap++)
            {
                new Span<float>(sums + ((long)tap * Stride), tile.ChannelCount).Clear();
            }

            float* ring = Rings + ((long)worker * RingRows * RingStride);
            for (int token = tile.Start; token < tile.End;)
            {
                (_, int start, int end) = Tiles.SequenceAt(tile.Row, token);
                int last = Math.Min(end, tile.End);
                RunSequence<TV>(tile, token, last, start, end, ring, sums);
                token = last;
            }
        }

        /// <summary>
        /// Tokens [first, last) of the sequence [start, end). The gradient of the pre-activation of the latest tokens is kept in a ring;
        /// the input gradient of a token follows as soon as the width - 1 tokens after it are known, some of them past this tile.
        /// </summary>
        private readonly void RunSequence<TV>(in Tile tile, int first, int last, int start, int end, float* ring, float* sums)
            where TV : struct, IFloatVector<TV>
        {
            int before = Tiles.Width - 1;
            for (int token = first; token < last + before;)
            {
                int tokens = Tiles.Width == 4 && token - start >= before && token + 4 <= last ? 4 : 1;
                if (tokens == 4)
                {
                    RunFour<TV>(tile, token, ring, sums);
                }
                else if (token < end)
                {
                    RunOne<TV>(tile, token, start, ring, token < last ? sums : null);
                }
                else
                {
                    new Span<float>(RingRow(ring, token), tile.ChannelCount).Clear();
                }

                for (int i = 0; i < tokens; i++, token++)
                {
                    if (token - before >= first && InputGradient.IsWanted)
                    {
                        WriteInputGradient<TV>(tile, token - before, ring);
                    }
                }
            }
        }

        private readonly void RunOne<TV>(in Tile tile, int token, int start, float* ring, float* sums)
            where TV : struct, IFloatVector<TV>
        {
            int before = Tiles.Width - 1;
            long position = Position(tile, token);
            float* gradient = RingRow(ring, token);
            var window = new Window
            {
                History = Zeros,
                Early = Math.Max(0, before - (token - start)),
                Inputs = X + position - ((long)before * Tiles.Channels),
                Stride = Tiles.Channels,
            };
            if (Silu)
            {
                Rows.PreActivation<TV>(window, Tiles.Width, Taps + tile.Channel, Stride, Bias + tile.Channel, gradient, tile.ChannelCount);
            }

            FinishGradient<TV>(OutputGradient + position, gradient, tile.ChannelCount);
            if (sums != null)
            {
                Rows.AddToSums<TV>(window, Tiles.Width, gradient, sums, Stride, tile.ChannelCount);
            }
        }

        private readonly void RunFour<TV>(in Tile tile, int token, float* ring, float* sums)
            where TV : struct, IFloatVector<TV>
        {
            long position = Position(tile, token);
            float* x = X + position - (3L * Tiles.Channels);
            float* dy = OutputGradient + position;
            for (int i = 0; i < tile.ChannelCount; i += CachedChannels)
            {
                int count = Math.Min(CachedChannels, tile.ChannelCount - i);
                float* g0 = RingRow(ring, token) + i;
                float* g1 = RingRow(ring, token + 1) + i;
                float* g2 = RingRow(ring, token + 2) + i;
                float* g3 = RingRow(ring, token + 3) + i;
                if (Silu)
                {
                    Rows.FourTokens<TV>(x + i, Tiles.Channels, Taps + tile.Channel + i, Stride, Bias + tile.Channel + i, g0, g1, g2, g3, count);
                }

                FinishGradient<TV>(dy + i, g0, count);
                FinishGradient<TV>(dy + i + Tiles.Channels, g1, count);
                FinishGradient<TV>(dy + i + (2L * Tiles.Channels), g2, count);
                FinishGradient<TV>(dy + i + (3L * Tiles.Channels), g3, count);
                Rows.AddFourTokensToSums<TV>(x + i, Tiles.Channels, g0, g1, g2, g3, sums + i, Stride, count);
            }
        }

        /// <summary>From the pre-activation (with SiLU) to its gradient.</summary>
        private readonly void FinishGradient<TV>(float* outputGradient, float* gradient, int count)
            where TV : struct, IFloatVector<TV>
        {
            if (Silu)
            {
                Rows.SiluGradient<TV>(outputGradient, gradient, count);
            }
            else
            {
                new ReadOnlySpan<float>(outputGradient, count).CopyTo(new Span<float>(gradient, count));
            }
        }

        /// <summary>The convolution backwards in time: tap width - 1 meets the gradient of the token itself, tap 0 that of the last token it reached.</summary>
        private readonly void WriteInputGradient<TV>(in Tile tile, int token, float* ring)
            where TV : struct, IFloatVector<TV>
        {
            float* target = InputGradient.Address + Position(tile, token);
            float* taps = Taps + tile.Channel;
            if (Tiles.Width == 4)
            {
                float* start = InputGradient.Accumulate ? target : Zeros;
                Rows.FourTaps<TV>(
                    RingRow(ring, token + 3), RingRow(ring, token + 2), RingRow(ring, token + 1), RingRow(ring, token), taps, Stride, start, target, tile.ChannelCount);
                return;
            }

            if (!InputGradient.Accumulate)
            {
                new Span<float>(target, tile.ChannelCount).Clear();
            }

            for (int tap = 0; tap < Tiles.Width; tap++)
            {
                RowMath.AddProductTo<TV>(taps + ((long)tap * Stride), RingRow(ring, token + Tiles.Width - 1 - tap), target, tile.ChannelCount);
            }
        }

        private readonly float* RingRow(float* ring, int token) => ring + ((long)(token % RingRows) * RingStride);

        private readonly long Position(in Tile tile, int token) => ((((long)tile.Row * Tiles.Time) + token) * Tiles.Channels) + tile.Channel;
    }
}
