using System.Runtime.CompilerServices;
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

    /// <summary>bias + sum over taps, in order, for the channels of one vector.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static TV PreActivation<TV>(in Window window, float* taps, float* bias, int channels, int width, int channel, int left)
        where TV : struct, IFloatVector<TV>
    {
        TV sum = RowMath.LoadUpTo<TV>(bias + channel, left);
        for (int tap = 0; tap < width; tap++)
        {
            sum = TV.MultiplyAdd(RowMath.LoadUpTo<TV>(taps + ((long)tap * channels) + channel, left), RowMath.LoadUpTo<TV>(window[tap] + channel, left), sum);
        }

        return sum;
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
                    if (Tiles.Width == 4)
                    {
                        RunRowOfFour<TV>(window, tile, y);
                    }
                    else
                    {
                        RunRow<TV>(window, tile, y);
                    }
                }
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private readonly void RunRow<TV>(in Window window, in Tile tile, float* y)
            where TV : struct, IFloatVector<TV>
        {
            for (int i = 0; i < tile.ChannelCount; i += TV.Count)
            {
                int left = tile.ChannelCount - i;
                TV sum = PreActivation<TV>(window, Taps + tile.Channel, Bias + tile.Channel, Tiles.Channels, Tiles.Width, i, left);
                RowMath.StoreUpTo(Silu ? SimdMath.Silu(sum) : sum, y + i, left);
            }
        }

        /// <summary>The same sums in the same order, with the four rows and filters in registers.</summary>
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private readonly void RunRowOfFour<TV>(in Window window, in Tile tile, float* y)
            where TV : struct, IFloatVector<TV>
        {
            float* bias = Bias + tile.Channel;
            float* w0 = Taps + tile.Channel;
            float* w1 = w0 + Tiles.Channels;
            float* w2 = w1 + Tiles.Channels;
            float* w3 = w2 + Tiles.Channels;
            float* x0 = window[0];
            float* x1 = window[1];
            float* x2 = window[2];
            float* x3 = window[3];
            for (int i = 0; i < tile.ChannelCount; i += TV.Count)
            {
                int left = tile.ChannelCount - i;
                TV sum = TV.MultiplyAdd(RowMath.LoadUpTo<TV>(w0 + i, left), RowMath.LoadUpTo<TV>(x0 + i, left), RowMath.LoadUpTo<TV>(bias + i, left));
                sum = TV.MultiplyAdd(RowMath.LoadUpTo<TV>(w1 + i, left), RowMath.LoadUpTo<TV>(x1 + i, left), sum);
                sum = TV.MultiplyAdd(RowMath.LoadUpTo<TV>(w2 + i, left), RowMath.LoadUpTo<TV>(x2 + i, left), sum);
                sum = TV.MultiplyAdd(RowMath.LoadUpTo<TV>(w3 + i, left), RowMath.LoadUpTo<TV>(x3 + i, left), sum);
                RowMath.StoreUpTo(Silu ? SimdMath.Silu(sum) : sum, y + i, left);
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
            for (int token = first; token < last + before; token++)
            {
                if (token < end)
                {
                    long position = ((((long)tile.Row * Tiles.Time) + token) * Tiles.Channels) + tile.Channel;
                    var window = new Window
                    {
                        History = Zeros,
                        Early = Math.Max(0, before - (token - start)),
                        Inputs = X + position - ((long)before * Tiles.Channels),
                        Stride = Tiles.Channels,
                    };
                    float* destination = ring + ((long)(token % Tiles.Width) * ChannelBlock);
                    PreActivationGradient<TV>(tile, window, OutputGradient + position, destination);
                    if (token < last)
                    {
                        AddToSums<TV>(tile, window, destination, sums);
                    }
                }

                if (token - before >= first && InputGradient.IsWanted)
                {
                    WriteInputGradient<TV>(tile, token - before, end, ring);
                }
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private readonly void PreActivationGradient<TV>(in Tile tile, in Window window, float* outputGradient, float* destination)
            where TV : struct, IFloatVector<TV>
        {
            for (int i = 0; i < tile.ChannelCount; i += TV.Count)
            {
                int left = tile.ChannelCount - i;
                TV gradient = RowMath.LoadUpTo<TV>(outputGradient + i, left);
                if (Silu)
                {
                    TV sum = PreActivation<TV>(window, Taps + tile.Channel, Bias + tile.Channel, Tiles.Channels, Tiles.Width, i, left);
                    gradient *= Elementwise.SiluSlope(sum, SimdMath.Sigmoid(sum));
                }

                RowMath.StoreUpTo(gradient, destination + i, left);
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private readonly void AddToSums<TV>(in Tile tile, in Window window, float* gradient, float* sums)
            where TV : struct, IFloatVector<TV>
        {
            for (int tap = 0; tap < Tiles.Width; tap++, sums += Tiles.Channels)
            {
                float* inputs = window[tap];
                for (int i = 0; i < tile.ChannelCount; i += TV.Count)
                {
                    int left = tile.ChannelCount - i;
                    TV product = TV.MultiplyAdd(RowMath.LoadUpTo<TV>(gradient + i, left), RowMath.LoadUpTo<TV>(inputs + i, left), RowMath.LoadUpTo<TV>(sums + i, left));
                    RowMath.StoreUpTo(product, sums + i, left);
                }
            }

            for (int i = 0; i < tile.ChannelCount; i += TV.Count)
            {
                int left = tile.ChannelCount - i;
                RowMath.StoreUpTo(RowMath.LoadUpTo<TV>(gradient + i, left) + RowMath.LoadUpTo<TV>(sums + i, left), sums + i, left);
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private readonly void WriteInputGradient<TV>(in Tile tile, int token, int end, float* ring)
            where TV : struct, IFloatVector<TV>
        {
            int ahead = Math.Min(Tiles.Width, end - token);
            long position = ((((long)tile.Row * Tiles.Time) + token) * Tiles.Channels) + tile.Channel;
            for (int i = 0; i < tile.ChannelCount; i += TV.Count)
            {
                int left = tile.ChannelCount - i;
                TV sum = TV.Zero;
                for (int k = 0; k < ahead; k++)
                {
                    float* gradient = ring + ((long)((token + k) % Tiles.Width) * ChannelBlock);
                    float* taps = Taps + ((long)(Tiles.Width - 1 - k) * Tiles.Channels) + tile.Channel;
                    sum = TV.MultiplyAdd(RowMath.LoadUpTo<TV>(gradient + i, left), RowMath.LoadUpTo<TV>(taps + i, left), sum);
                }

                InputGradient.Write(sum, position + i, left);
            }
        }
    }
}
