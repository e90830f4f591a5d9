using ExactFlow.Tensors;

namespace ExactFlow.Operators;

public static unsafe partial class ShortConvolution
{
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
}
