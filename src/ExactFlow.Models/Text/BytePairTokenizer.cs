using System.Collections.Concurrent;
using System.Text;
using ExactFlow.Models.Text.Decoders;
using ExactFlow.Models.Text.Files;
using ExactFlow.Tensors;

namespace ExactFlow.Models.Text;

/// <summary>
/// Byte-pair encoding with all that stands around it in a Hugging Face <c>tokenizer.json</c>: byte-level as GPT-2 introduced it, or over characters with byte fallback as
/// Llama and Mistral have it. A text goes through added tokens, normalizer, pre-tokenizer, merges and post-processor, ids come back through the decoder. Safe for several
/// threads.
/// </summary>
public sealed class BytePairTokenizer
{
    private const int PartBytes = 1 << 18;

    private readonly TokenizerParts parts;
    private readonly TokenizerPipeline pipeline;
    private readonly string?[] tokens;
    private readonly SortedDictionary<string, int> specialIds;
    private readonly HashSet<int> specialIdSet;
    private readonly Lazy<byte[][]> bytes;
    private readonly ConcurrentBag<BytePairScratch> scratches = [];

    /// <summary>A tokenizer from its parts.</summary>
    /// <exception cref="InvalidInputException">A part is damaged, or of a kind that is not computed here, which is named.</exception>
    internal BytePairTokenizer(TokenizerParts parts)
    {
        this.parts = parts;
        pipeline = new TokenizerPipeline(parts);
        tokens = pipeline.Tokens;
        AddedToken[] special = [.. parts.Added.Where(token => token.IsSpecial)];
        specialIds = new SortedDictionary<string, int>(special.ToDictionary(token => token.Content, token => token.Id), StringComparer.Ordinal);
        specialIdSet = [.. special.Select(token => token.Id)];
        bytes = new Lazy<byte[][]>(() => [.. tokens.Select(token => token is null ? [] : Decoder.IsByteLevel ? ByteLevelStage.BytesOf(token) : BytesWithin(token))]);
    }

    /// <summary>Number of ids: they run from 0 to one less.</summary>
    public int VocabularySize => tokens.Length;

    /// <summary>Contents and ids of the special tokens, which control a model rather than standing for text.</summary>
    public IReadOnlyDictionary<string, int> SpecialTokens => specialIds;

    /// <summary>All tokens that are recognised in the text before merges, the special ones and others, by id.</summary>
    public IReadOnlyList<AddedToken> AddedTokens => parts.Added;

    /// <summary>Number of merges.</summary>
    public int MergeCount => parts.Merges.Count;

    /// <summary>Special tokens that the file wants before and after a text.</summary>
    public (IReadOnlyList<int> Before, IReadOnlyList<int> After) Surrounding => (pipeline.Before, pipeline.After);

    /// <summary>What the parts are, in the words of the file: name and short description.</summary>
    public IReadOnlyList<(string Part, string Description)> Components => TokenizerDescription.Of(parts);

    /// <summary>The merges, earliest-learned first, as pairs of ids.</summary>
    internal IReadOnlyList<(int Left, int Right)> Merges => parts.Merges;

    /// <summary>All that makes it.</summary>
    internal TokenizerParts Parts => parts;

    /// <summary>How tokens become text.</summary>
    internal DecoderChain Decoder => pipeline.Decoder;

    /// <summary>
    /// Learns a byte-level vocabulary. Ids: special tokens in the given order, the 256 bytes in the order of their printable characters, then the merges. The result
    /// depends on the texts alone, not on threads; ties go to the pair whose bytes are lexicographically greatest.
    /// </summary>
    /// <param name="texts">UTF-8 texts.</param>
    /// <param name="vocabularySize">Ids wanted, at least 256 and the special tokens; a text in which too few pairs occur twice gives fewer.</param>
    /// <param name="specialTokens">Contents of special tokens, such as <c>&lt;|endoftext|&gt;</c>.</param>
    /// <param name="threads">Threads that count words; 0 for all.</param>
    /// <exception cref="InvalidInputException">The vocabulary is too small, a special token is empty, one character, or given twice, or there is no text.</exception>
    public static BytePairTokenizer Train(IEnumerable<ReadOnlyMemory<byte>> texts, int vocabularySize, IReadOnlyList<string>? specialTokens = null, int threads = 0)
        => new(TokenizerTraining.Run(texts, vocabularySize, specialTokens ?? [], threads));

    /// <summary>Reads a tokenizer.</summary>
    /// <param name="path">A <c>tokenizer.json</c>, or a folder with one, or with GPT-2's <c>encoder.json</c> (<c>vocab.json</c>) and <c>vocab.bpe</c> (<c>merges.txt</c>).</param>
    /// <exception cref="InvalidInputException">Missing, damaged, or with a component that is not supported, which is named.</exception>
    public static BytePairTokenizer Load(string path) => new(TokenizerReader.Load(path));

    /// <summary>Writes a Hugging Face <c>tokenizer.json</c>, with the components it was loaded with.</summary>
    public void Save(string path) => TokenizerWriter.Save(this, path);

    /// <summary>Encodes a text.</summary>
    /// <param name="text">The text; halves of surrogate pairs become U+FFFD.</param>
    /// <param name="recogniseSpecialTokens">Whether contents of special tokens become those tokens (or are text like any other). Other added tokens always count.</param>
    /// <param name="addSpecialTokens">Whether the special tokens that the file wants before and after a text are put there.</param>
    public int[] Encode(string text, bool recogniseSpecialTokens = true, bool addSpecialTokens = false)
        => Encode(Encoding.UTF8.GetBytes(text), recogniseSpecialTokens, addSpecialTokens);

    /// <summary>Encodes bytes, which should be UTF-8 but need not be: any bytes decode to themselves, unless a normalizer changes them or the vocabulary lacks them.</summary>
    public int[] Encode(ReadOnlySpan<byte> utf8, bool recogniseSpecialTokens = true, bool addSpecialTokens = false)
    {
        int[] ids = EncodePart(utf8, continues: false, recogniseSpecialTokens);
        return addSpecialTokens ? [.. pipeline.Before, .. ids, .. pipeline.After] : ids;
    }

    /// <summary>Encodes a long text on several threads; the ids are those of <see cref="Encode(ReadOnlySpan{byte}, bool, bool)"/>.</summary>
    /// <param name="utf8">The text.</param>
    /// <param name="threads">Threads to use; 0 for all.</param>
    /// <param name="recogniseSpecialTokens">Whether contents of special tokens become those tokens.</param>
    public int[] EncodeLong(ReadOnlyMemory<byte> utf8, int threads = 0, bool recogniseSpecialTokens = true)
    {
        threads = threads > 0 ? threads : Environment.ProcessorCount;
        ReadOnlyMemory<byte>[] texts = [.. pipeline.SafeParts(utf8, PartBytes)];
        var encoded = new int[texts.Length][];
        Parallel.For(0, texts.Length, new ParallelOptions { MaxDegreeOfParallelism = threads }, i => encoded[i] = EncodePart(texts[i].Span, continues: i > 0, recogniseSpecialTokens));
        var ids = new int[encoded.Sum(part => (long)part.Length)];
        int count = 0;
        foreach (int[] part in encoded)
        {
            part.CopyTo(ids, count);
            count += part.Length;
        }

        return ids;
    }

    /// <summary>The text of ids, as the decoder of the file has it; bytes that are no UTF-8 (of characters cut in two) become U+FFFD.</summary>
    /// <param name="ids">Token ids.</param>
    /// <param name="skipSpecialTokens">Whether special tokens leave no trace.</param>
    /// <exception cref="InvalidInputException">An id is outside the vocabulary.</exception>
    public string Decode(ReadOnlySpan<int> ids, bool skipSpecialTokens = false)
        => Decoder.IsByteLevel ? Encoding.UTF8.GetString(DecodeBytes(ids, skipSpecialTokens)) : new TextDecoder(this, skipSpecialTokens).DecodeAll(ids);

    /// <summary>The bytes of ids: what <see cref="Decode"/> gives, but for bytes that are no UTF-8, which stay as they are.</summary>
    /// <exception cref="InvalidInputException">An id is outside the vocabulary.</exception>
    public byte[] DecodeBytes(ReadOnlySpan<int> ids, bool skipSpecialTokens = false)
    {
        int length = 0;
        foreach (int id in ids)
        {
            length = checked(length + BytesOf(id, skipSpecialTokens).Length);
        }

        var result = new byte[length];
        Span<byte> rest = result;
        bool isFirst = !Decoder.IsByteLevel;
        foreach (int id in ids)
        {
            ReadOnlySpan<byte> token = BytesOf(id, skipSpecialTokens);
            if (isFirst && tokens[id] is { } first && !(skipSpecialTokens && IsSpecial(id)))
            {
                // The decoder may take a blank off the start of a text.
                token = BytesAtStart(first);
                isFirst = false;
            }

            token.CopyTo(rest);
            rest = rest[token.Length..];
        }

        return result[..^rest.Length];
    }

    /// <summary>The bytes that an id stands for within a text; empty for ids that are not in use.</summary>
    /// <exception cref="InvalidInputException">The id is outside the vocabulary.</exception>
    public ReadOnlySpan<byte> BytesOf(int id) => bytes.Value[Checked(id)];

    /// <summary>A token as the file writes it, or null for an id that is not in use.</summary>
    /// <exception cref="InvalidInputException">The id is outside the vocabulary.</exception>
    public string? TokenOf(int id) => tokens[Checked(id)];

    /// <summary>Whether an id is a special token.</summary>
    public bool IsSpecial(int id) => specialIdSet.Contains(id);

    private int Checked(int id) => (uint)id < (uint)tokens.Length
        ? id
        : throw new InvalidInputException($"Token id {id} is outside the vocabulary, whose ids are 0 to {tokens.Length - 1}; the ids come from another tokenizer.");

    private ReadOnlySpan<byte> BytesOf(int id, bool skipSpecialTokens) => skipSpecialTokens && IsSpecial(id) ? default : BytesOf(id);

    /// <summary>What a token adds to a text that has begun.</summary>
    private byte[] BytesWithin(string token)
    {
        if (ByteOf(token) is { } value)
        {
            return [value];
        }

        string text = Decoder.Decode("a", token);
        return Encoding.UTF8.GetBytes(text.StartsWith('a') ? text[1..] : token);
    }

    private byte[] BytesAtStart(string token) => ByteOf(token) is { } value ? [value] : Encoding.UTF8.GetBytes(Decoder.Decode(token));

    private byte? ByteOf(string token) => Decoder.HasByteFallback && ByteFallbackStage.ByteOf(token) is >= 0 and int value ? (byte)value : null;

    private int[] EncodePart(ReadOnlySpan<byte> utf8, bool continues, bool recogniseSpecialTokens)
    {
        BytePairScratch scratch = scratches.TryTake(out BytePairScratch? used) ? used : new BytePairScratch(pipeline.Model);
        scratch.Output.Clear();
        pipeline.Encode(utf8, continues, recogniseSpecialTokens, scratch);
        int[] ids = scratch.Output.Span.ToArray();
        scratches.Add(scratch);
        return ids;
    }
}
