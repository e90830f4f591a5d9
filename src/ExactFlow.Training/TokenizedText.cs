using ExactFlow.Models.Text;
using ExactFlow.Tensors;
using ExactFlow.Training.Data;
using ExactFlow.Training.Options;
using ExactFlow.Training.Packing;

namespace ExactFlow.Training;

/// <summary>A training and a validation text with the tokenizer that both went through.</summary>
public sealed class TokenizedText
{
    /// <summary>The token that begins every prompt and ends a text, in a tokenizer that is trained here.</summary>
    public const string EndOfTextToken = "<|endoftext|>";

    /// <summary>Tokens of the validation text that are scored at the end of a run, at most.</summary>
    private const int MostValidationTokens = 1 << 24;

    private const string SeparateDocuments = "documents";

    private TokenizedText(BytePairTokenizer tokenizer, string tokenizerJson, int endOfText, TokenStream training, TokenStream validation, int[] validationIds)
    {
        Tokenizer = tokenizer;
        TokenizerJson = tokenizerJson;
        Training = training;
        Validation = validation;
        ValidationIds = validationIds;
        EndOfText = endOfText;
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

    /// <summary>The validation text as it is; of a packed one, its first 2^24 tokens at most.</summary>
    public int[] ValidationIds { get; }

    /// <summary>Id of <see cref="EndOfTextToken"/>, or of what a tokenizer from elsewhere has in its place; of a packed text, of the token that its documents begin with.</summary>
    public int EndOfText { get; }

    /// <summary>Bytes of text per token id; 0 for special tokens.</summary>
    public int[] TokenBytes { get; }

    /// <summary>Takes the tokenizer from a file if it is there, trains and writes it otherwise, and encodes both texts; a packed text is mapped into memory after its checksums were checked.</summary>
    /// <param name="options">Vocabulary, tokenizer, sequence length, and how documents are packed.</param>
    /// <param name="text">Training and validation text; of a packed one, what <see cref="TextSource.Load(DataOptions)"/> says about it.</param>
    /// <param name="cachePath">Where the trained tokenizer is kept; a resumed run reads it back instead of training it again.</param>
    /// <param name="seed">Decides the order of the training windows.</param>
    /// <param name="threads">Threads to use, 0 for all.</param>
    /// <exception cref="InvalidInputException">A text is too short, the tokenizer lacks the end-of-text token, or a packed text is damaged or has another tokenizer.</exception>
    public static TokenizedText Prepare(DataOptions options, TextCorpus text, string cachePath, int seed, int threads = 0)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(text);
        if (options.Packed is not null)
        {
            return PreparePacked(options, text, seed, threads);
        }

        string path = options.Tokenizer ?? cachePath;
        if (options.Tokenizer is null && !File.Exists(cachePath))
        {
            BytePairTokenizer.Train([text.Training], options.Vocabulary, [EndOfTextToken], threads).Save(cachePath);
        }

        BytePairTokenizer tokenizer = BytePairTokenizer.Load(path);
        int endOfText = DocumentToken.Find(tokenizer) is { } token
            ? tokenizer.SpecialTokens[token]
            : throw new InvalidInputException(
                $"The tokenizer '{path}' has no special token {DocumentToken.Names}, which begins prompts: use one that has, pack the text with 'exactflow data pack --document-token', or train one (data.tokenizer=null).");
        int[] trainingIds = EncodeDocuments(tokenizer, text.TrainingDocuments, endOfText, threads, out int[] starts);
        int[] validationIds = tokenizer.EncodeLong(text.Validation, threads, recogniseSpecialTokens: false);
        return new TokenizedText(
            tokenizer,
            File.ReadAllText(path),
            endOfText,
            Stream(new MemoryTokens(trainingIds, starts), options, seed, "training"),
            Stream(new MemoryTokens(validationIds, []), options, seed, "validation"),
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

    private static TokenizedText PreparePacked(DataOptions options, TextCorpus text, int seed, int threads)
    {
        PackedCorpus corpus = PackedText.Open(options);
        try
        {
            corpus.Verify(threads);
            BytePairTokenizer tokenizer = corpus.LoadTokenizer();
            (PackedTokens training, ITokenSequence validation) = PackedText.Divide(corpus, options);
            int[] validationIds = PackedText.ValidationIds(options, validation, tokenizer, text.Validation, MostValidationTokens, threads);
            return new TokenizedText(
                tokenizer,
                File.ReadAllText(corpus.TokenizerPath),
                corpus.Manifest.DocumentToken,
                Stream(training, options, seed, "training"),
                Stream(options.ValidationText.Length > 0 ? new MemoryTokens(validationIds, []) : validation, options, seed, "validation"),
                validationIds);
        }
        catch
        {
            corpus.Dispose();
            throw;
        }
    }

    /// <summary>Documents one after another, the token that begins prompts before each, so that what follows it is learned.</summary>
    private static int[] EncodeDocuments(BytePairTokenizer tokenizer, IReadOnlyList<ReadOnlyMemory<byte>> documents, int endOfText, int threads, out int[] starts)
    {
        List<int> ids = [], begins = [];
        foreach (ReadOnlyMemory<byte> document in documents)
        {
            begins.Add(ids.Count);
            ids.Add(endOfText);
            ids.AddRange(tokenizer.EncodeLong(document, threads, recogniseSpecialTokens: false));
        }

        starts = [.. begins];
        return [.. ids];
    }

    private static TokenStream Stream(ITokenSequence tokens, DataOptions options, int seed, string which)
        => tokens.Count > options.SequenceLength
            ? new TokenStream(tokens, options.SequenceLength, (ulong)seed, options.Packing == SeparateDocuments)
            : throw new InvalidInputException(
                $"The {which} text has {tokens.Count} tokens, but one window needs {options.SequenceLength + 1}: give a longer {which} text or lower data.sequence_length.");
}
