using System.Runtime.InteropServices;
using System.Security.Cryptography;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Randomness;

namespace ExactFlow.Training;

/// <summary>
/// A text as token ids in memory, cut into windows of <see cref="SequenceLength"/> + 1 tokens (neighbours share one: the last target of a window is the
/// first input of the next) and dealt out in a shuffled order that is a pure function of seed and epoch. A position (windows dealt since the start of
/// training) is therefore all that a checkpoint needs, and every model that is given the same seed sees the same text in the same order.
/// </summary>
public sealed class TokenStream
{
    private readonly ushort[]? narrow;
    private readonly int[]? wide;
    private readonly ulong seed;
    private readonly int[] order;
    private readonly int uncovered;
    private long orderedEpoch = -1;
    private int epochOffset;

    /// <summary>Cuts the text into windows.</summary>
    /// <param name="tokens">Token ids of the whole text; kept as 16 bits each when they fit.</param>
    /// <param name="sequenceLength">Inputs per window.</param>
    /// <param name="seed">Decides the order.</param>
    /// <exception cref="InvalidInputException">The text has fewer tokens than one window.</exception>
    public TokenStream(ReadOnlySpan<int> tokens, int sequenceLength, ulong seed)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(sequenceLength, 1);
        if (tokens.Length < sequenceLength + 1)
        {
            throw new InvalidInputException(
                $"The text has {tokens.Length} tokens, but one window of training needs {sequenceLength + 1}: give a longer text or a shorter sequence length.");
        }

        this.seed = seed;
        SequenceLength = sequenceLength;
        TokenCount = tokens.Length;
        if (tokens.ContainsAnyExceptInRange(0, ushort.MaxValue))
        {
            wide = tokens.ToArray();
        }
        else
        {
            narrow = new ushort[tokens.Length];
            for (int i = 0; i < tokens.Length; i++)
            {
                narrow[i] = (ushort)tokens[i];
            }
        }

        WindowsPerEpoch = (tokens.Length - 1) / sequenceLength;
        uncovered = tokens.Length - 1 - (WindowsPerEpoch * sequenceLength);
        order = new int[WindowsPerEpoch];
    }

    /// <summary>Inputs per window.</summary>
    public int SequenceLength { get; }

    /// <summary>Tokens of the text.</summary>
    public int TokenCount { get; }

    /// <summary>Windows that cover the text once.</summary>
    public int WindowsPerEpoch { get; }

    /// <summary>
    /// Writes consecutive windows of the shuffled order. Nothing is remembered between calls but the order of the epoch last asked for.
    /// </summary>
    /// <param name="position">Windows dealt before these.</param>
    /// <param name="inputs">[windows, time]: tokens 0 .. T-1 of each window.</param>
    /// <param name="targets">[windows, time]: tokens 1 .. T, what the model has to say at each place.</param>
    public void Read(long position, Span<int> inputs, Span<int> targets)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(position);
        int windows = WindowCount(inputs, targets);
        for (int i = 0; i < windows; i++)
        {
            (long epoch, long index) = Math.DivRem(position + i, WindowsPerEpoch);
            Shuffle(epoch);
            CopyWindow(epochOffset + (order[index] * SequenceLength), Row(inputs, i), Row(targets, i));
        }
    }

    /// <summary>Writes fixed windows for validation: <paramref name="total"/> of them spread evenly over the text, unshuffled, beginning with number <paramref name="first"/>.</summary>
    /// <param name="first">Index of the first window to write, below <paramref name="total"/>.</param>
    /// <param name="total">Windows of the whole validation, at most <see cref="WindowsPerEpoch"/>.</param>
    /// <param name="inputs">[windows, time].</param>
    /// <param name="targets">[windows, time].</param>
    public void ReadFixed(int first, int total, Span<int> inputs, Span<int> targets)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(total, WindowsPerEpoch);
        int windows = WindowCount(inputs, targets);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(first + windows, total);
        for (int i = 0; i < windows; i++)
        {
            int window = (int)((long)(first + i) * WindowsPerEpoch / total);
            CopyWindow(window * SequenceLength, Row(inputs, i), Row(targets, i));
        }
    }

    /// <summary>SHA-256 of the token ids, to tell whether a run goes on with the text it was begun with.</summary>
    public string ContentHash()
        => Convert.ToHexStringLower(SHA256.HashData(wide is not null ? MemoryMarshal.AsBytes(wide.AsSpan()) : MemoryMarshal.AsBytes(narrow.AsSpan())));

    /// <summary>Copies tokens of the text in their own order.</summary>
    public void CopyTokens(int start, Span<int> destination)
    {
        if (wide is not null)
        {
            wide.AsSpan(start, destination.Length).CopyTo(destination);
            return;
        }

        ReadOnlySpan<ushort> source = narrow.AsSpan(start, destination.Length);
        for (int i = 0; i < source.Length; i++)
        {
            destination[i] = source[i];
        }
    }

    private int WindowCount(Span<int> inputs, Span<int> targets)
    {
        if (inputs.Length != targets.Length || inputs.Length % SequenceLength != 0)
        {
            throw new ArgumentException($"Windows of {SequenceLength} tokens were read into {inputs.Length} inputs and {targets.Length} targets; both must be the same multiple.");
        }

        return inputs.Length / SequenceLength;
    }

    private Span<int> Row(Span<int> rows, int row) => rows.Slice(row * SequenceLength, SequenceLength);

    private void CopyWindow(int start, Span<int> inputs, Span<int> targets)
    {
        CopyTokens(start, inputs);
        CopyTokens(start + 1, targets);
    }

    /// <summary>Fisher-Yates over the windows; the tokens that windows leave over shift the first window, so epochs cut the text differently.</summary>
    private void Shuffle(long epoch)
    {
        if (epoch == orderedEpoch)
        {
            return;
        }

        var random = new Philox(seed, (ulong)epoch ^ Philox.StreamOf("data.order"));
        for (int i = 0; i < order.Length; i++)
        {
            order[i] = i;
        }

        for (int i = order.Length - 1; i > 0; i--)
        {
            int other = random.Below((ulong)i, i + 1);
            (order[i], order[other]) = (order[other], order[i]);
        }

        epochOffset = random.Below((ulong)order.Length, uncovered + 1);
        orderedEpoch = epoch;
    }
}
