using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Randomness;
using ExactFlow.Training.Packing;

namespace ExactFlow.Training;

/// <summary>
/// A text as token ids, in memory or mapped, cut into windows of <see cref="SequenceLength"/> + 1 tokens (neighbours share one: the last target of a window is the
/// first input of the next) and dealt out in a shuffled order that is a pure function of seed and epoch. A position (windows dealt since the start of
/// training) is therefore all that a checkpoint needs, and every model that is given the same seed sees the same text in the same order.
/// </summary>
public sealed class TokenStream
{
    private readonly ITokenSequence tokens;
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
        : this(new MemoryTokens(tokens, []), sequenceLength, seed, separatesDocuments: false)
    {
    }

    /// <summary>Cuts documents into windows.</summary>
    /// <param name="tokens">The documents.</param>
    /// <param name="sequenceLength">Inputs per window.</param>
    /// <param name="seed">Decides the order.</param>
    /// <param name="separatesDocuments">Whether no document is to see another, although a window may hold several.</param>
    /// <exception cref="InvalidInputException">The text has fewer tokens than one window.</exception>
    internal TokenStream(ITokenSequence tokens, int sequenceLength, ulong seed, bool separatesDocuments)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(sequenceLength, 1);
        if (tokens.Count < sequenceLength + 1)
        {
            throw new InvalidInputException(
                $"The text has {tokens.Count} tokens, but one window of training needs {sequenceLength + 1}: give a longer text or a shorter sequence length.");
        }

        long windows = (tokens.Count - 1) / sequenceLength;
        if (windows > Array.MaxLength)
        {
            throw new InvalidInputException($"The text has {windows} windows of {sequenceLength} tokens, more than the {Array.MaxLength} that can be shuffled: raise data.sequence_length.");
        }

        this.tokens = tokens;
        this.seed = seed;
        SequenceLength = sequenceLength;
        SeparatesDocuments = separatesDocuments;
        WindowsPerEpoch = (int)windows;
        uncovered = (int)(tokens.Count - 1 - (windows * sequenceLength));
        order = new int[WindowsPerEpoch];
    }

    /// <summary>Inputs per window.</summary>
    public int SequenceLength { get; }

    /// <summary>Tokens of the text.</summary>
    public long TokenCount => tokens.Count;

    /// <summary>Whether no document sees another although a window may hold several: then <see cref="Documents"/> says where they begin.</summary>
    public bool SeparatesDocuments { get; }

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
            CopyWindow(Start(position + i), Row(inputs, i), Row(targets, i));
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
            CopyWindow(FixedStart(first + i, total), Row(inputs, i), Row(targets, i));
        }
    }

    /// <summary>
    /// Where documents begin in the windows that <see cref="Read"/> writes, which are then one packed row of all their tokens: every window begins anew, and so does every document in it.
    /// Null unless documents are kept apart.
    /// </summary>
    /// <param name="position">Windows dealt before these.</param>
    /// <param name="windows">Number of windows.</param>
    public SequenceOffsets? Documents(long position, int windows)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(position);
        ArgumentOutOfRangeException.ThrowIfLessThan(windows, 1);
        return SeparatesDocuments ? Offsets(windows, i => Start(position + i)) : null;
    }

    /// <summary>Where documents begin in the windows that <see cref="ReadFixed"/> writes; null unless documents are kept apart.</summary>
    /// <param name="first">Index of the first window.</param>
    /// <param name="total">Windows of the whole validation.</param>
    /// <param name="windows">Number of windows.</param>
    public SequenceOffsets? FixedDocuments(int first, int total, int windows)
        => SeparatesDocuments ? Offsets(windows, i => FixedStart(first + i, total)) : null;

    /// <summary>SHA-256 that tells whether a run goes on with the text it was begun with: of the token ids, or of the checksums that cover them.</summary>
    public string ContentHash() => tokens.ContentHash();

    private int WindowCount(Span<int> inputs, Span<int> targets)
    {
        if (inputs.Length != targets.Length || inputs.Length % SequenceLength != 0)
        {
            throw new ArgumentException($"Windows of {SequenceLength} tokens were read into {inputs.Length} inputs and {targets.Length} targets; both must be the same multiple.");
        }

        return inputs.Length / SequenceLength;
    }

    private Span<int> Row(Span<int> rows, int row) => rows.Slice(row * SequenceLength, SequenceLength);

    private void CopyWindow(long start, Span<int> inputs, Span<int> targets)
    {
        tokens.Copy(start, inputs);
        tokens.Copy(start + 1, targets);
    }

    /// <summary>The first token of a window of the shuffled order.</summary>
    private long Start(long position)
    {
        (long epoch, long index) = Math.DivRem(position, WindowsPerEpoch);
        Shuffle(epoch);
        return epochOffset + ((long)order[index] * SequenceLength);
    }

    private long FixedStart(int window, int total) => (long)window * WindowsPerEpoch / total * SequenceLength;

    private SequenceOffsets Offsets(int windows, Func<int, long> start)
    {
        List<int> offsets = [];
        for (int i = 0; i < windows; i++)
        {
            offsets.Add(i * SequenceLength);
            tokens.AddDocumentStarts(start(i), SequenceLength, i * SequenceLength, offsets);
        }

        offsets.Add(windows * SequenceLength);
        return new SequenceOffsets([.. offsets]);
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
