using ExactFlow.Models.Text;
using ExactFlow.Tensors;
using ExactFlow.Training.Options;

namespace ExactFlow.Training;

/// <summary>A training and a validation text with the tokenizer that both went through.</summary>
public sealed class TokenizedText
{
    /// <summary>The token that separates documents and begins every prompt.</summary>
    public const string EndOfTextToken = "<|endoftext|>";

    private TokenizedText(BytePairTokenizer tokenizer, string tokenizerJson, TokenStream training, TokenStream validation, int[] validationIds)
    {
        Tokenizer = tokenizer;
        TokenizerJson = tokenizerJson;
        Training = training;
        Validation = validation;
        ValidationIds = validationIds;
        EndOfText = tokenizer.SpecialTokens[EndOfTextToken];
        TokenBytes = CountBytes(tokenizer);
    }

    /// <summary>The tokenizer.</summary>
    public BytePairTokenizer Tokenizer { get; }

    /// <summary>The tokenizer as a Hugging Face tokenizer.json.</summary>
    public string TokenizerJson { get; }

    /// <summary>The training text.</summary>
    public TokenStream Training { get; }

    /// <summary>The validation text in windows.</summary>
    public TokenStream Validation { get; }

    /// <summary>The validation text as it is.</summary>
    public int[] ValidationIds { get; }

    /// <summary>Id of <see cref="EndOfTextToken"/>.</summary>
    public int EndOfText { get; }

    /// <summary>Bytes of text per token id; 0 for special tokens.</summary>
    public int[] TokenBytes { get; }

    /// <summary>Takes the tokenizer from a file if it is there, trains and writes it otherwise, and encodes both texts.</summary>
    /// <param name="options">Vocabulary, tokenizer and sequence length.</param>
    /// <param name="training">UTF-8 documents to train on.</param>
    /// <param name="validation">UTF-8 documents held out.</param>
    /// <param name="cachePath">Where the trained tokenizer is kept; a resumed run reads it back instead of training it again.</param>
    /// <param name="seed">Decides the order of the training windows.</param>
    /// <param name="threads">Threads to use, 0 for all.</param>
    /// <exception cref="InvalidInputException">A text is too short, or the tokenizer lacks the end-of-text token.</exception>
    public static TokenizedText Prepare(
        DataOptions options, IReadOnlyList<ReadOnlyMemory<byte>> training, IReadOnlyList<ReadOnlyMemory<byte>> validation, string cachePath, int seed, int threads = 0)
    {
        ArgumentNullException.ThrowIfNull(options);
        string path = options.Tokenizer ?? cachePath;
        if (options.Tokenizer is null && !File.Exists(cachePath))
        {
            BytePairTokenizer.Train(training, options.Vocabulary, [EndOfTextToken], threads).Save(cachePath);
        }

        BytePairTokenizer tokenizer = BytePairTokenizer.Load(path);
        if (!tokenizer.SpecialTokens.TryGetValue(EndOfTextToken, out int endOfText))
        {
            throw new InvalidInputException($"The tokenizer '{path}' has no special token {EndOfTextToken}, which separates documents: use one that has, or train one (data.tokenizer=null).");
        }

        int[] trainingIds = Encode(tokenizer, training, endOfText, threads);
        int[] validationIds = Encode(tokenizer, validation, endOfText, threads);
        return new TokenizedText(
            tokenizer,
            File.ReadAllText(path),
            Stream(trainingIds, options.SequenceLength, seed, "training"),
            Stream(validationIds, options.SequenceLength, seed, "validation"),
            validationIds);
    }

    /// <summary>Bytes of text that each token id of a tokenizer stands for; 0 for special tokens.</summary>
    public static int[] CountBytes(BytePairTokenizer tokenizer)
    {
        ArgumentNullException.ThrowIfNull(tokenizer);
        int[] bytes = new int[tokenizer.VocabularySize];
        for (int id = 0; id < bytes.Length; id++)
        {
            bytes[id] = tokenizer.IsSpecial(id) ? 0 : tokenizer.BytesOf(id).Length;
        }

        return bytes;
    }

    private static TokenStream Stream(int[] ids, int length, int seed, string which)
        => ids.Length > length
            ? new TokenStream(ids, length, (ulong)seed)
            : throw new InvalidInputException(
                $"The {which} text has {ids.Length} tokens, but one window needs {length + 1}: give a longer {which} text or lower data.sequence_length.");

    /// <summary>Documents one after another, the end-of-text token between them (not after the last).</summary>
    private static int[] Encode(BytePairTokenizer tokenizer, IReadOnlyList<ReadOnlyMemory<byte>> documents, int endOfText, int threads)
    {
        var ids = new List<int>();
        foreach (ReadOnlyMemory<byte> document in documents)
        {
            if (ids.Count > 0)
            {
                ids.Add(endOfText);
            }

            ids.AddRange(tokenizer.EncodeLong(document, threads, recogniseSpecialTokens: false));
        }

        return [.. ids];
    }
}
