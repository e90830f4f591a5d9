using ExactFlow.Tensors;
using ExactFlow.Tensors.Memory;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Operators;

public static unsafe partial class ShortConvolution
{
    /// <summary>Channels that one index of a loop works on, so that the rows it needs at once stay in the first-level cache.</summary>
    private const int ChannelBlock = 512;

    private static void Forward(
        CpuDevice device, Tensor x, Tensor weight, Tensor? bias, bool silu, Tensor? state, SequenceOffsets? offsets, Tensor y)
    {
        int channels = x.Shape[2];
        int width = weight.Shape[1];
        long carried = state is null ? 0 : state.Count;
        using var scratch = new Scratch(device, (((width + 1L) * channels) + carried) * sizeof(float));
        float* taps = scratch.Floats;
        float* history = taps + ((long)width * channels);
        Transpose(weight.Floats, channels, width, taps);
        float* zeros = history;
        new Span<float>(zeros, channels).Clear();
        if (state is not null)
        {
            history += channels;
            for (int sequence = 0; sequence < state.Shape[0]; sequence++)
            {
                long first = (long)sequence * channels * (width - 1);
                Transpose(state.Floats + first, channels, width - 1, history + first);
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
        long sumsPerTile = (width + 1L) * channels;
        long ring = (long)width * ChannelBlock;
        using var scratch = new Scratch(
            device, (((width + 1L) * channels) + (device.Workers.WorkerCount * ring) + ((tiles.PerChannelBlock + 1) * sumsPerTile)) * sizeof(float));
        float* taps = scratch.Floats;
        float* zeros = taps + ((long)width * channels);
        float* rings = zeros + channels;
        float* partial = rings + (device.Workers.WorkerCount * ring);
        float* sums = partial + (tiles.PerChannelBlock * sumsPerTile);
        Transpose(weight.Floats, channels, width, taps);
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
                    Bias = bias is null ? zeros : bias.Floats,
                    Zeros = zeros,
                    OutputGradient = outputGradient.Floats,
                    InputGradient = inputGradient,
                    Rings = rings,
                    Partial = partial,
                });
        }

        RowSums.Fold(device, partial, tiles.PerChannelBlock, sumsPerTile, checked((int)sumsPerTile), sums, accumulate: false);
        WriteFilterGradient(sums, channels, width, weightGradient, biasGradient);
    }

    private static void WriteFilterGradient(float* sums, int channels, int width, GradientTarget weightGradient, GradientTarget biasGradient)
    {
        for (int channel = 0; channel < channels; channel++)
        {
            for (int tap = 0; weightGradient.IsWanted && tap < width; tap++)
            {
                float* target = weightGradient.Address + ((long)channel * width) + tap;
                float value = sums[((long)tap * channels) + channel];
                *target = weightGradient.Accumulate ? *target + value : value;
            }

            if (biasGradient.IsWanted)
            {
                float value = sums[((long)width * channels) + channel];
                biasGradient.Address[channel] = biasGradient.Accumulate ? biasGradient.Address[channel] + value : value;
            }
        }
    }

    private static void Transpose(float* source, int rows, int columns, float* destination)
    {
        for (int row = 0; row < rows; row++)
        {
            for (int column = 0; column < columns; column++)
            {
                destination[((long)column * rows) + row] = source[((long)row * columns) + column];
            }
        }
    }

    private struct ForwardBody : IVectorBody
    {
        public Tiles Tiles;
        public bool Silu;
        public float* X;
        public float* Taps;
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
                for (int last = Math.Min(end, tile.End); token < last; token++)
                {
                    var window = new Window
                    {
                        History = history + ((token - start) * HistoryStride),
                        HistoryStride = HistoryStride,
                        Early = Math.Max(0, before - (token - start)),
                        Inputs = X + ((firstToken + token - before) * channels) + tile.Channel,
                        Stride = channels,
                    };
                    float* y = Y + ((firstToken + token) * channels) + tile.Channel;
                    Rows.PreActivation<TV>(window, Tiles.Width, Taps + tile.Channel, channels, Bias + tile.Channel, y, tile.ChannelCount);
                    if (Silu)
                    {
                        Rows.Silu<TV>(y, tile.ChannelCount);
                    }
                }
            }
        }
    }

    private struct BackwardBody : IVectorBody
    {
        public Tiles Tiles;
        public bool Silu;
        public float* X;
        public float* Taps;
        public float* Bias;
        public float* Zeros;
        public float* OutputGradient;
        public GradientTarget InputGradient;
        public float* Rings;
        public float* Partial;

        public readonly void Run<TV>(int index, int worker)
            where TV : struct, IFloatVector<TV>
        {
            Tile tile = Tiles[index];
            float* sums = Partial + (tile.Number * (Tiles.Width + 1L) * Tiles.Channels) + tile.Channel;
            for (int tap = 0; tap <= Tiles.Width; tap++)
            {
                new Span<float>(sums + ((long)tap * Tiles.Channels), tile.ChannelCount).Clear();
            }

            float* ring = Rings + ((long)worker * Tiles.Width * ChannelBlock);
            for (int token = tile.Start; token < tile.End;)
            {
                (_, int start, int end) = Tiles.SequenceAt(tile.Row, token);
                int last = Math.Min(end, tile.End);
                RunSequence<TV>(tile, token, last, start, end, ring, sums);
                token = last;
            }
        }

        /// <summary>
        /// Tokens [first, last) of the sequence [start, end). The gradient of the pre-activation is kept for the last `width` tokens in a ring;
        /// the input gradient of a token follows as soon as the width - 1 tokens after it are known, some of them past this tile.
        /// </summary>
        private readonly void RunSequence<TV>(in Tile tile, int first, int last, int start, int end, float* ring, float* sums)
            where TV : struct, IFloatVector<TV>
        {
            int before = Tiles.Width - 1;
            int channels = Tiles.Channels;
            for (int token = first; token < last + before; token++)
            {
                float* gradient = ring + ((long)(token % Tiles.Width) * ChannelBlock);
                if (token < end)
                {
                    long position = ((((long)tile.Row * Tiles.Time) + token) * channels) + tile.Channel;
                    var window = new Window
                    {
                        History = Zeros,
                        Early = Math.Max(0, before - (token - start)),
                        Inputs = X + position - ((long)before * channels),
                        Stride = channels,
                    };
                    WritePreActivationGradient<TV>(tile, window, OutputGradient + position, gradient);
                    if (token < last)
                    {
                        Rows.AddToSums<TV>(window, Tiles.Width, gradient, sums, channels, tile.ChannelCount);
                    }
                }
                else
                {
                    new Span<float>(gradient, tile.ChannelCount).Clear();
                }

                if (token - before >= first && InputGradient.IsWanted)
                {
                    WriteInputGradient<TV>(tile, token - before, ring);
                }
            }
        }

        private readonly void WritePreActivationGradient<TV>(in Tile tile, in Window window, float* outputGradient, float* destination)
            where TV : struct, IFloatVector<TV>
        {
            if (Silu)
            {
                Rows.PreActivation<TV>(window, Tiles.Width, Taps + tile.Channel, Tiles.Channels, Bias + tile.Channel, destination, tile.ChannelCount);
                Rows.SiluGradient<TV>(outputGradient, destination, tile.ChannelCount);
            }
            else
            {
                new ReadOnlySpan<float>(outputGradient, tile.ChannelCount).CopyTo(new Span<float>(destination, tile.ChannelCount));
            }
        }

        /// <summary>The convolution backwards in time: tap width - 1 meets the gradient of the token itself, tap 0 that of the last token it reached.</summary>
        private readonly void WriteInputGradient<TV>(in Tile tile, int token, float* ring)
            where TV : struct, IFloatVector<TV>
        {
            float* target = InputGradient.Address + ((((long)tile.Row * Tiles.Time) + token) * Tiles.Channels) + tile.Channel;
            float* taps = Taps + tile.Channel;
            int width = Tiles.Width;
            float* summand = InputGradient.Accumulate ? target : Zeros;
            if (width == 4)
            {
                Rows.FourTaps<TV>(
                    ring + ((token + 3) % 4 * ChannelBlock),
                    ring + ((token + 2) % 4 * ChannelBlock),
                    ring + ((token + 1) % 4 * ChannelBlock),
                    ring + (token % 4 * ChannelBlock),
                    taps,
                    Tiles.Channels,
                    summand,
                    target,
                    tile.ChannelCount);
                return;
            }

            if (!InputGradient.Accumulate)
            {
                new Span<float>(target, tile.ChannelCount).Clear();
            }

            for (int tap = 0; tap < width; tap++)
            {
                float* gradient = ring + ((long)((token + width - 1 - tap) % width) * ChannelBlock);
                RowMath.AddProductTo<TV>(taps + ((long)tap * Tiles.Channels), gradient, target, tile.ChannelCount);
            }
        }
    }
}
