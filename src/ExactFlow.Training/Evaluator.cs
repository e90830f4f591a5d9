using ExactFlow.Models;
using ExactFlow.Operators;
using ExactFlow.Tensors;

namespace ExactFlow.Training;

/// <summary>What a text costs a model.</summary>
/// <param name="Tokens">Tokens predicted.</param>
/// <param name="Bytes">Bytes of text they stand for.</param>
/// <param name="Nats">Sum of their losses.</param>
public readonly record struct TextScore(long Tokens, long Bytes, double Nats)
{
    /// <summary>Nats per token.</summary>
    public double Loss => Nats / Tokens;

    /// <summary>exp of the mean loss per token: comparable only between models with one tokenizer.</summary>
    public double Perplexity => Math.Exp(Loss);

    /// <summary>Bits per byte of text, comparable between all models and with compressors.</summary>
    public double BitsPerByte => Nats / Math.Log(2) / Bytes;

    /// <summary>exp of the mean loss per byte.</summary>
    public double BytePerplexity => Math.Exp(Nats / Bytes);
}

/// <summary>Measures how well a model predicts a text. Sums run in float64 in the order of the text.</summary>
public sealed class Evaluator
{
    /// <summary>Tokens of sliding windows that go through the model together.</summary>
    private const int TokensAtOnce = 4096;

    private readonly LanguageModel model;
    private readonly int[] tokenBytes;

    /// <summary>An evaluator of a model.</summary>
    /// <param name="model">The model; the caller owns it.</param>
    /// <param name="tokenBytes">Bytes of text that each token id stands for, 0 for special tokens.</param>
    public Evaluator(LanguageModel model, int[] tokenBytes)
    {
        this.model = model ?? throw new ArgumentNullException(nameof(model));
        this.tokenBytes = tokenBytes ?? throw new ArgumentNullException(nameof(tokenBytes));
        if (tokenBytes.Length > model.Config.VocabularySize)
        {
            throw new InvalidInputException(
                $"The tokenizer has {tokenBytes.Length} tokens, but the model's vocabulary has {model.Config.VocabularySize}: give the tokenizer the model was trained with.");
        }
    }

    /// <summary>
    /// Scores a whole text, every token once. Carried: models with a recurrent state read pieces and keep the state, so each token is predicted from all
    /// before it, exactly, in memory that does not depend on the length; a model that was trained on short sequences may do badly so far beyond them.
    /// Sliding: windows that overlap by half, each read from an empty state, of which the second half is predicted (of the first window, all):
    /// the same protocol for every mixer, and the only one for softmax attention, whose state would grow with the text.
    /// </summary>
    /// <param name="ids">The text.</param>
    /// <param name="context">A token that comes before the first one (the end-of-text token), or null: then the first token is not predicted.</param>
    /// <param name="window">Tokens read at once; sliding, also the longest context. At least 2.</param>
    /// <param name="carryState">Carried or sliding.</param>
    /// <exception cref="InvalidInputException">Nothing to predict.</exception>
    public TextScore Score(ReadOnlySpan<int> ids, int? context, int window = 1024, bool carryState = true)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(window, 2);
        int[] text = context is { } first ? [first, .. ids] : ids.ToArray();
        if (text.Length < 2)
        {
            throw new InvalidInputException($"Scoring a text needs at least two tokens, the begin token included, but there are {text.Length}: give a longer text.");
        }

        return carryState && model.Config.Mixer.Family != MixerFamily.Softmax ? ScoreCarried(text, window) : ScoreSliding(text, window);
    }

    /// <summary>Scores fixed windows of a text, each without what came before: the validation during training.</summary>
    /// <param name="text">The text.</param>
    /// <param name="windows">Windows to read, spread over the text; at most as many as it has.</param>
    /// <param name="batchSize">Windows read at once; changes nothing but speed and memory.</param>
    public TextScore ScoreWindows(TokenStream text, int windows, int batchSize)
    {
        ArgumentNullException.ThrowIfNull(text);
        windows = Math.Min(windows, text.WindowsPerEpoch);
        var score = default(TextScore);
        for (int first = 0; first < windows; first += batchSize)
        {
            int count = Math.Min(batchSize, windows - first);
            int[] inputs = new int[count * text.SequenceLength];
            int[] targets = new int[inputs.Length];
            text.ReadFixed(first, windows, inputs, targets);
            score = Add(score, inputs, targets, count, skip: 0, state: null, text.FixedDocuments(first, windows, count));
        }

        return score;
    }

    private TextScore ScoreCarried(int[] text, int window)
    {
        using ModelState state = model.CreateState();
        var score = default(TextScore);
        for (int start = 0; start + 1 < text.Length; start += window)
        {
            int length = Math.Min(window, text.Length - 1 - start);
            score = Add(score, text.AsSpan(start, length), text.AsSpan(start + 1, length), 1, skip: 0, state);
        }

        return score;
    }

    private TextScore ScoreSliding(int[] text, int window)
    {
        int stride = window / 2;
        int first = Math.Min(window, text.Length - 1);
        TextScore score = Add(default, text.AsSpan(0, first), text.AsSpan(1, first), 1, skip: 0, state: null);
        int predicted = first;
        int rowsAtOnce = Math.Max(1, TokensAtOnce / window);
        while (predicted < text.Length - 1)
        {
            // Whole windows go through the model several at a time; the last one is short.
            int whole = Math.Min((text.Length - 1 - predicted) / stride, rowsAtOnce);
            int rows = Math.Max(1, whole);
            int fresh = whole > 0 ? stride : text.Length - 1 - predicted;
            int length = window - stride + fresh;
            int[] inputs = new int[rows * length];
            int[] targets = new int[inputs.Length];
            for (int row = 0; row < rows; row++)
            {
                int start = predicted + (row * stride) - (window - stride);
                text.AsSpan(start, length).CopyTo(inputs.AsSpan(row * length));
                text.AsSpan(start + 1, length).CopyTo(targets.AsSpan(row * length));
            }

            score = Add(score, inputs, targets, rows, skip: window - stride, state: null);
            predicted += rows * fresh;
        }

        return score;
    }

    /// <param name="skip">Tokens at the beginning of each row that are read but not predicted.</param>
    private TextScore Add(TextScore score, ReadOnlySpan<int> inputs, ReadOnlySpan<int> targets, int rows, int skip, ModelState? state, SequenceOffsets? documents = null)
    {
        Device device = model.Device;
        using var step = device.BeginStep(recordGradients: false);
        int length = inputs.Length / rows;
        Shape shape = documents is null ? [rows, length] : [1, inputs.Length];
        float[] losses = model.TokenLosses(device.From(inputs, shape), device.From(targets, shape), documents, state).ToHost<float>();
        double nats = score.Nats;
        long bytes = score.Bytes;
        for (int row = 0; row < rows; row++)
        {
            for (int i = (row * length) + skip; i < (row + 1) * length; i++)
            {
                nats += losses[i];
                bytes += tokenBytes[targets[i]];
            }
        }

        return new TextScore(score.Tokens + (rows * (length - skip)), bytes, nats);
    }
}
