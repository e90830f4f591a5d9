using ExactFlow.Tensors;

namespace ExactFlow.Models.Layers;

/// <summary>Keys and values of all tokens so far, for each sequence; grows in blocks.</summary>
public sealed class AttentionCache : MixerState
{
    private readonly Sequence[] sequences;

    internal AttentionCache(Device device, int sequenceCount, int heads, int keyDim, int valueDim, DType precision)
    {
        sequences = new Sequence[sequenceCount];
        for (int i = 0; i < sequenceCount; i++)
        {
            sequences[i] = new Sequence(device, heads, keyDim, valueDim, precision);
        }
    }

    /// <summary>A cache per sequence.</summary>
    public IReadOnlyList<Sequence> Sequences => sequences;

    /// <inheritdoc/>
    public override long ByteCount
    {
        get
        {
            long bytes = 0;
            foreach (Sequence sequence in sequences)
            {
                bytes += sequence.Keys.ByteCount + sequence.Values.ByteCount;
            }

            return bytes;
        }
    }

    /// <inheritdoc/>
    public override void Reset()
    {
        foreach (Sequence sequence in sequences)
        {
            sequence.Reset();
        }
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        foreach (Sequence sequence in sequences)
        {
            sequence.Dispose();
        }
    }

    /// <summary>The cache of one sequence.</summary>
    public sealed class Sequence : IDisposable
    {
        private const int BlockLength = 256;

        internal Sequence(Device device, int heads, int keyDim, int valueDim, DType precision)
        {
            Keys = device.Persistent([1, BlockLength, heads, keyDim], precision);
            Values = device.Persistent([1, BlockLength, heads, valueDim], precision);
        }

        /// <summary>Rotated keys: [1, capacity, heads, dim].</summary>
        public Tensor Keys { get; private set; }

        /// <summary>Values: [1, capacity, heads, dim].</summary>
        public Tensor Values { get; private set; }

        /// <summary>Tokens held.</summary>
        public int Length { get; private set; }

        /// <summary>Adds tokens.</summary>
        /// <param name="keys">Rotated: [1, time, heads, dim].</param>
        /// <param name="values">[1, time, heads, dim].</param>
        public void Append(Tensor keys, Tensor values)
        {
            ArgumentNullException.ThrowIfNull(keys);
            int time = keys.Shape[1];
            Reserve(Length + time);
            Write(keys, Keys, Length);
            Write(values, Values, Length);
            Length += time;
        }

        /// <summary>Forgets all tokens; keeps the memory.</summary>
        public void Reset() => Length = 0;

        /// <inheritdoc/>
        public void Dispose()
        {
            Keys.Dispose();
            Values.Dispose();
        }

        /// <summary>Grows by half at least, so that copying stays linear in the length.</summary>
        private void Reserve(int length)
        {
            int capacity = Keys.Shape[1];
            if (length > capacity)
            {
                int grown = Math.Max(length, capacity + (capacity / 2));
                grown = (grown + BlockLength - 1) / BlockLength * BlockLength;
                Keys = Grow(Keys, grown);
                Values = Grow(Values, grown);
            }
        }

        private Tensor Grow(Tensor old, int capacity)
        {
            Tensor grown = old.Device.Persistent([1, capacity, old.Shape[2], old.Shape[3]], old.DType);
            if (Length > 0)
            {
                using Tensor held = Rows(old);
                using Tensor used = held.Slice(0, Length);
                Write(used, grown, 0);
            }

            old.Dispose();
            return grown;
        }

        private static void Write(Tensor source, Tensor cache, int position)
        {
            using Tensor tokens = Rows(source);
            using Tensor places = Rows(cache);
            using Tensor target = places.Slice(position, tokens.Shape[0]);
            target.CopyFrom(tokens);
        }

        private static Tensor Rows(Tensor x) => x.Reshape(x.Shape.Rank == 4 ? [x.Shape[1], x.Shape[2] * x.Shape[3]] : x.Shape);
    }
}
