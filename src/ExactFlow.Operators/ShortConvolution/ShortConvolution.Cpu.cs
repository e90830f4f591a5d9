using ExactFlow.Tensors;
using ExactFlow.Tensors.Memory;
using ExactFlow.Tensors.Parallel;

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
        new Span<float>(history, channels).Clear();
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
            device.Workers.For(
                tiles.Count,
                new ForwardBody
                {
                    Tiles = tiles,
                    Silu = silu,
                    X = x.Floats,
                    Taps = taps,
                    Bias = bias is null ? null : bias.Floats,
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
            device.Workers.For(
                tiles.Count,
                new BackwardBody
                {
                    Tiles = tiles,
                    Silu = silu,
                    X = x.Floats,
                    Taps = taps,
                    Bias = bias is null ? null : bias.Floats,
                    Zeros = zeros,
                    OutputGradient = outputGradient.Floats,
                    InputGradient = inputGradient,
                    Rings = rings,
                    Partial = partial,
                });
        }

        RowSums.Fold(partial, tiles.PerChannelBlock, checked((int)sumsPerTile), sums, accumulate: false);
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

    private static float Sigmoid(float x) => 1 / (1 + MathF.Exp(-x));

    /// <summary>The work divided by batch row, time and channels, depending on shapes only.</summary>
    private struct Tiles
    {
        public int* Offsets;
        public int DocumentCount;
        public int Time;
        public int Channels;
        public int Width;
        public int TokensPerTile;
        public int TilesPerRow;

        /// <summary>Tiles of one block of channels.</summary>
        public int PerChannelBlock;

        /// <summary>All tiles.</summary>
        public int Count;

        public static Tiles Of(Tensor x, SequenceOffsets? offsets, int width, int tokensPerTile)
        {
            int perRow = (x.Shape[1] + tokensPerTile - 1) / tokensPerTile;
            return new Tiles
            {
                DocumentCount = offsets?.Count ?? 0,
                Time = x.Shape[1],
                Channels = x.Shape[2],
                Width = width,
                TokensPerTile = tokensPerTile,
                TilesPerRow = perRow,
                PerChannelBlock = x.Shape[0] * perRow,
                Count = x.Shape[0] * perRow * ((x.Shape[2] + ChannelBlock - 1) / ChannelBlock),
            };
        }

        public readonly ReadOnlySpan<int> Documents(SequenceOffsets? offsets) => offsets is null ? default : offsets.Span;

        /// <summary>Batch row, first and last token, and first channel and channel count of a tile.</summary>
        public readonly Tile this[int index]
        {
            get
            {
                int block = index / PerChannelBlock;
                int tile = index % PerChannelBlock;
                int start = tile % TilesPerRow * TokensPerTile;
                return new Tile
                {
                    Number = tile,
                    Row = tile / TilesPerRow,
                    Start = start,
                    End = Math.Min(Time, start + TokensPerTile),
                    Channel = block * ChannelBlock,
                    ChannelCount = Math.Min(ChannelBlock, Channels - (block * ChannelBlock)),
                };
            }
        }

        /// <summary>The sequence that holds a token: its number (which state it carries), first token and one past its last.</summary>
        public readonly (int Number, int Start, int End) SequenceAt(int row, int token)
        {
            if (Offsets == null)
            {
                return (row, 0, Time);
            }

            // The last document that starts at or before the token; empty documents at the same place come before it.
            int low = 0;
            int high = DocumentCount - 1;
            while (low < high)
            {
                int middle = (low + high + 1) / 2;
                if (Offsets[middle] <= token)
                {
                    low = middle;
                }
                else
                {
                    high = middle - 1;
                }
            }

            return (low, Offsets[low], Offsets[low + 1]);
        }
    }

    private struct Tile
    {
        public int Number;
        public int Row;
        public int Start;
        public int End;
        public int Channel;
        public int ChannelCount;
    }

    /// <summary>Where the inputs of one output row lie: the first <see cref="Early"/> taps in the history of the sequence, the others in x.</summary>
    private struct Window
    {
        public float* History;
        public long HistoryStride;
        public int Early;
        public float* Inputs;
        public long Stride;

        public readonly float* this[int tap] => tap < Early ? History + (tap * HistoryStride) : Inputs + (tap * Stride);
    }

    private struct ForwardBody : IParallelBody
    {
        public Tiles Tiles;
        public bool Silu;
        public float* X;
        public float* Taps;
        public float* Bias;
        public float* History;
        public long HistoryStride;
        public float* Y;

        public readonly void Run(int index, int worker)
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
                    for (int i = 0; i < tile.ChannelCount; i++)
                    {
                        float sum = PreActivation(window, Taps + tile.Channel, Bias == null ? null : Bias + tile.Channel, channels, Tiles.Width, i);
                        y[i] = Silu ? sum * Sigmoid(sum) : sum;
                    }
                }
            }
        }
    }

    private static float PreActivation(in Window window, float* taps, float* bias, int channels, int width, int channel)
    {
        float sum = bias == null ? 0 : bias[channel];
        for (int tap = 0; tap < width; tap++)
        {
            sum = MathF.FusedMultiplyAdd(taps[((long)tap * channels) + channel], window[tap][channel], sum);
        }

        return sum;
    }

    private struct BackwardBody : IParallelBody
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

        public readonly void Run(int index, int worker)
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
                RunSequence(tile, token, last, start, end, ring, sums);
                token = last;
            }
        }

        /// <summary>
        /// Tokens [first, last) of the sequence [start, end). The gradient of the pre-activation is kept for the last `width` tokens in a ring;
        /// the input gradient of a token follows as soon as the width - 1 tokens after it are known, some of them past this tile.
        /// </summary>
        private readonly void RunSequence(in Tile tile, int first, int last, int start, int end, float* ring, float* sums)
        {
            int after = Tiles.Width - 1;
            for (int token = first; token < last + after; token++)
            {
                if (token < end)
                {
                    PreActivationGradient(tile, token, start, ring + ((long)(token % Tiles.Width) * ChannelBlock), token < last ? sums : null);
                }

                if (token - after >= first && InputGradient.IsWanted)
                {
                    WriteInputGradient(tile, token - after, end, ring);
                }
            }
        }

        private readonly void PreActivationGradient(in Tile tile, int token, int start, float* destination, float* sums)
        {
            int channels = Tiles.Channels;
            int before = Tiles.Width - 1;
            long position = ((((long)tile.Row * Tiles.Time) + token) * channels) + tile.Channel;
            var window = new Window
            {
                History = Zeros,
                Early = Math.Max(0, before - (token - start)),
                Inputs = X + position - ((long)before * channels),
                Stride = channels,
            };
            for (int i = 0; i < tile.ChannelCount; i++)
            {
                float value = OutputGradient[position + i];
                if (Silu)
                {
                    float sum = PreActivation(window, Taps + tile.Channel, Bias == null ? null : Bias + tile.Channel, channels, Tiles.Width, i);
                    float sigmoid = Sigmoid(sum);
                    value *= sigmoid * (1 + (sum * (1 - sigmoid)));
                }

                destination[i] = value;
                for (int tap = 0; sums != null && tap < Tiles.Width; tap++)
                {
                    sums[((long)tap * channels) + i] += value * window[tap][i];
                }

                if (sums != null)
                {
                    sums[((long)Tiles.Width * channels) + i] += value;
                }
            }
        }

        private readonly void WriteInputGradient(in Tile tile, int token, int end, float* ring)
        {
            int after = Tiles.Width - 1;
            float* target = InputGradient.Address + ((((long)tile.Row * Tiles.Time) + token) * Tiles.Channels) + tile.Channel;
            for (int i = 0; i < tile.ChannelCount; i++)
            {
                float sum = 0;
                for (int ahead = 0; ahead <= after && token + ahead < end; ahead++)
                {
                    sum += ring[((long)((token + ahead) % Tiles.Width) * ChannelBlock) + i] * Taps[((long)(after - ahead) * Tiles.Channels) + tile.Channel + i];
                }

                target[i] = InputGradient.Accumulate ? target[i] + sum : sum;
            }
        }
    }
}
