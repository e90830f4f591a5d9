using ExactFlow.Models.Text;
using ExactFlow.Tensors;
using ExactFlow.Training.Data;
using ExactFlow.Training.Options;

namespace ExactFlow.Training;

/// <summary>A training and a validation text with the tokenizer that both went through.</summary>
public sealed class TokenizedText
{
    /// <summary>The token that begins every prompt and ends a text.</summary>
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
    /// <param name="text">Training and validation text.</param>
    /// <param name="cachePath">Where the trained tokenizer is kept; a resumed run reads it back instead of training it again.</param>
    /// <param name="seed">Decides the order of the training windows.</param>
    /// <param name="threads">Threads to use, 0 for all.</param>
    /// <exception cref="InvalidInputException">A text is too short, or the tokenizer lacks the end-of-text token.</exception>
    public static TokenizedText Prepare(DataOptions options, TextCorpus text, string cachePath, int seed, int threads = 0)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(text);
        string path = options.Tokenizer ?? cachePath;
        if (options.Tokenizer is null && !File.Exists(cachePath))
        {
            BytePairTokenizer.Train([text.Training], options.Vocabulary, [EndOfTextToken], threads).Save(cachePath);
        }

        BytePairTokenizer tokenizer = BytePairTokenizer.Load(path);
        if (!tokenizer.SpecialTokens.TryGetValue(EndOfTextToken, out _))
        {
            throw new InvalidInputException($"The tokenizer '{path}' has no special token {EndOfTextToken}, which begins prompts: use one that has, or train one (data.tokenizer=null).");
        }

        int[] trainingIds = EncodeDocuments(tokenizer, text.TrainingDocuments, tokenizer.SpecialTokens[EndOfTextToken], threads);
        int[] validationIds = tokenizer.EncodeLong(text.Validation, threads, recogniseSpecialTokens: false);
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

    /// <summary>Documents one after another, the token that begins prompts before each, so that what follows it is learned.</summary>
    private static int[] EncodeDocuments(BytePairTokenizer tokenizer, IReadOnlyList<ReadOnlyMemory<byte>> documents, int endOfText, int threads)
    {
        List<int> ids = [];
        foreach (ReadOnlyMemory<byte> document in documents)
        {
            ids.Add(endOfText);
            ids.AddRange(tokenizer.EncodeLong(document, threads, recogniseSpecialTokens: false));
        }

        return [.. ids];
    }

    private static TokenStream Stream(int[] ids, int length, int seed, string which)
        => ids.Length > length
            ? new TokenStream(ids, length, (ulong)seed)
            : throw new InvalidInputException(
                $"The {which} text has {ids.Length} tokens, but one window needs {length + 1}: give a longer {which} text or lower data.sequence_length.");
}
