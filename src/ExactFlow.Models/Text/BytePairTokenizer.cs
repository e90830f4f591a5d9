using System.Collections.Concurrent;
using System.Text;
using ExactFlow.Tensors;

namespace ExactFlow.Models.Text;

/// <summary>
/// Byte-level byte-pair encoding as GPT-2 introduced it: text is UTF-8 bytes, cut into words, and each word is built up from single bytes by learned merges.
/// Every byte string has an encoding and decodes to itself. Safe for several threads.
/// </summary>
public sealed class BytePairTokenizer
{
    private const int PartsPerThread = 4;
    private readonly BytePairModel model;
    private readonly PreTokenizer preTokenizer = new Gpt2PreTokenizer();
    private readonly SpecialTokens special;
    private readonly SortedDictionary<string, int> specialIds;
    private readonly HashSet<int> specialIdSet;
    private readonly ConcurrentBag<BytePairScratch> scratches = [];

    /// <summary>A tokenizer from its parts.</summary>
    /// <param name="tokens">The bytes of each id; empty for unused ids.</param>
    /// <param name="merges">Pairs of ids, earliest-learned first.</param>
    /// <param name="specialTokens">Contents and ids of the tokens recognised before anything else.</param>
    internal BytePairTokenizer(IReadOnlyList<byte[]> tokens, IReadOnlyList<(int Left, int Right)> merges, IEnumerable<KeyValuePair<string, int>> specialTokens)
    {
        specialIds = new SortedDictionary<string, int>(specialTokens.ToDictionary(StringComparer.Ordinal), StringComparer.Ordinal);
        specialIdSet = [.. specialIds.Values];
        special = new SpecialTokens(specialIds);
        model = new BytePairModel(tokens, merges, specialIdSet);
    }

    /// <summary>Number of ids: they run from 0 to one less.</summary>
    public int VocabularySize => model.VocabularySize;

    /// <summary>Contents and ids of the tokens that are recognised in the text before anything else.</summary>
    public IReadOnlyDictionary<string, int> SpecialTokens => specialIds;

    /// <summary>The merges, earliest-learned first, as pairs of ids.</summary>
    internal IReadOnlyList<(int Left, int Right)> Merges => model.Merges;

    /// <summary>
    /// Learns a vocabulary. Ids: special tokens in the given order, the 256 bytes in the order of their printable characters, then the merges. The result depends on
    /// the texts alone, not on threads; ties go to the pair whose bytes are lexicographically greatest.
    /// </summary>
    /// <param name="texts">UTF-8 texts.</param>
    /// <param name="vocabularySize">Ids wanted, at least 256 and the special tokens; a text in which too few pairs occur twice gives fewer.</param>
    /// <param name="specialTokens">Contents of special tokens, such as <c>&lt;|endoftext|&gt;</c>.</param>
    /// <param name="threads">Threads that count words; 0 for all.</param>
    /// <exception cref="InvalidInputException">The vocabulary is too small, a special token is empty or given twice, or there is no text.</exception>
    public static BytePairTokenizer Train(IEnumerable<ReadOnlyMemory<byte>> texts, int vocabularySize, IReadOnlyList<string>? specialTokens = null, int threads = 0)
    {
        ArgumentNullException.ThrowIfNull(texts);
        specialTokens ??= [];
        if (vocabularySize < 256 + specialTokens.Count)
        {
            throw new InvalidInputException(
                $"A vocabulary of {vocabularySize} tokens was asked for, but 256 bytes and {specialTokens.Count} special tokens need {256 + specialTokens.Count}; ask for more.");
        }

        if (specialTokens.Any(string.IsNullOrEmpty) || specialTokens.Distinct(StringComparer.Ordinal).Count() != specialTokens.Count)
        {
            throw new InvalidInputException("A special token is empty or given twice; name each once.");
        }

        Dictionary<string, int> specialIds = specialTokens.Select((content, id) => KeyValuePair.Create(content, id)).ToDictionary(StringComparer.Ordinal);
        WordCounter words = WordCounter.Count(texts, new Gpt2PreTokenizer(), new SpecialTokens(specialIds), threads > 0 ? threads : Environment.ProcessorCount);
        if (words.Words.Count == 0)
        {
            throw new InvalidInputException("A tokenizer cannot be trained on an empty text; give one with some sentences.");
        }

        MergeLearner learner = new(words);
        learner.Learn(vocabularySize - specialTokens.Count);
        return FromLearned(learner, specialTokens, specialIds);
    }

    /// <summary>Reads a tokenizer.</summary>
    /// <param name="path">A <c>tokenizer.json</c>, or a folder with one, or with GPT-2's <c>encoder.json</c> (<c>vocab.json</c>) and <c>vocab.bpe</c> (<c>merges.txt</c>).</param>
    /// <exception cref="InvalidInputException">Missing, damaged, or with a component that is not supported, which is named.</exception>
    public static BytePairTokenizer Load(string path) => TokenizerFiles.Load(path);

    /// <summary>Writes a Hugging Face <c>tokenizer.json</c> (BPE model, byte-level pre-tokenizer and decoder, special tokens as added tokens).</summary>
    public void Save(string path) => TokenizerFiles.Save(this, path);

    /// <summary>Encodes a text.</summary>
    /// <param name="text">The text; halves of surrogate pairs become U+FFFD.</param>
    /// <param name="recogniseSpecialTokens">Whether contents of special tokens become those tokens (or are text like any other).</param>
    public int[] Encode(string text, bool recogniseSpecialTokens = true) => Encode(Encoding.UTF8.GetBytes(text), recogniseSpecialTokens);

    /// <summary>Encodes bytes, which should be UTF-8 but need not be: any bytes decode to themselves.</summary>
    public int[] Encode(ReadOnlySpan<byte> utf8, bool recogniseSpecialTokens = true)
    {
        IdBuffer ids = new(utf8.Length / 3);
        BytePairScratch scratch = scratches.TryTake(out BytePairScratch? used) ? used : new BytePairScratch();
        while (recogniseSpecialTokens && !utf8.IsEmpty)
        {
            int id = special.FindFirst(utf8, out int start, out int length);
            EncodeWords(utf8[..start], scratch, ref ids);
            if (id >= 0)
            {
                ids.Append(id);
            }

            utf8 = utf8[(start + length)..];
        }

        EncodeWords(utf8, scratch, ref ids);
        scratches.Add(scratch);
        return ids.Span.ToArray();
    }

    /// <summary>Encodes a long text on several threads; the ids are those of <see cref="Encode(ReadOnlySpan{byte}, bool)"/>.</summary>
    /// <param name="utf8">The text.</param>
    /// <param name="threads">Threads to use; 0 for all.</param>
    /// <param name="recogniseSpecialTokens">Whether contents of special tokens become those tokens.</param>
    public int[] EncodeLong(ReadOnlyMemory<byte> utf8, int threads = 0, bool recogniseSpecialTokens = true)
    {
        threads = threads > 0 ? threads : Environment.ProcessorCount;
        ReadOnlyMemory<byte>[] parts = [.. SafeParts(utf8, Math.Max(1 << 16, utf8.Length / (threads * PartsPerThread)), recogniseSpecialTokens)];
        var encoded = new int[parts.Length][];
        Parallel.For(0, parts.Length, new ParallelOptions { MaxDegreeOfParallelism = threads }, i => encoded[i] = Encode(parts[i].Span, recogniseSpecialTokens));
        var ids = new int[encoded.Sum(part => (long)part.Length)];
        int count = 0;
        foreach (int[] part in encoded)
        {
            part.CopyTo(ids, count);
            count += part.Length;
        }

        return ids;
    }

    /// <summary>The text of ids; bytes that are no UTF-8 (of characters cut in two) become U+FFFD.</summary>
    /// <param name="ids">Token ids.</param>
    /// <param name="skipSpecialTokens">Whether special tokens leave no trace.</param>
    /// <exception cref="InvalidInputException">An id is outside the vocabulary.</exception>
    public string Decode(ReadOnlySpan<int> ids, bool skipSpecialTokens = false) => Encoding.UTF8.GetString(DecodeBytes(ids, skipSpecialTokens));

    /// <summary>The bytes of ids.</summary>
    /// <exception cref="InvalidInputException">An id is outside the vocabulary.</exception>
    public byte[] DecodeBytes(ReadOnlySpan<int> ids, bool skipSpecialTokens = false)
    {
        int length = 0;
        foreach (int id in ids)
        {
            length = checked(length + BytesOf(id, skipSpecialTokens).Length);
        }

        var bytes = new byte[length];
        Span<byte> rest = bytes;
        foreach (int id in ids)
        {
            ReadOnlySpan<byte> token = BytesOf(id, skipSpecialTokens);
            token.CopyTo(rest);
            rest = rest[token.Length..];
        }

        return bytes;
    }

    /// <summary>The bytes of one id.</summary>
    /// <exception cref="InvalidInputException">The id is outside the vocabulary.</exception>
    public ReadOnlySpan<byte> BytesOf(int id) => model.Bytes(id);

    /// <summary>Whether an id is a special token.</summary>
    public bool IsSpecial(int id) => specialIdSet.Contains(id);

    private static BytePairTokenizer FromLearned(MergeLearner learner, IReadOnlyList<string> specialTokens, Dictionary<string, int> specialIds)
    {
        var ids = new int[learner.Tokens.Count];
        List<byte[]> tokens = [.. specialTokens.Select(Encoding.UTF8.GetBytes)];
        foreach (byte value in ByteAlphabet.InOrder)
        {
            ids[value] = tokens.Count;
            tokens.Add([value]);
        }

        for (int learned = 256; learned < learner.Tokens.Count; learned++)
        {
            ids[learned] = tokens.Count;
            tokens.Add(learner.Tokens[learned]);
        }

        return new BytePairTokenizer(tokens, [.. learner.Merges.Select(merge => (ids[merge.Left], ids[merge.Right]))], specialIds);
    }

    private ReadOnlySpan<byte> BytesOf(int id, bool skipSpecialTokens) => skipSpecialTokens && IsSpecial(id) ? default : BytesOf(id);

    private void EncodeWords(ReadOnlySpan<byte> text, BytePairScratch scratch, ref IdBuffer ids)
    {
        for (int start = 0; start < text.Length;)
        {
            int end = preTokenizer.WordEnd(text, start);
            scratch.Encode(model, text[start..end], ref ids);
            start = end;
        }
    }

    /// <summary>Parts of about the given size, none of which ends inside a word or a special token.</summary>
    private IEnumerable<ReadOnlyMemory<byte>> SafeParts(ReadOnlyMemory<byte> text, int size, bool recogniseSpecialTokens)
    {
        while (text.Length > size)
        {
            int cut = preTokenizer.SafeCut(text.Span, size);
            if (recogniseSpecialTokens)
            {
                cut = AfterSpecialTokens(text.Span, cut);
            }

            yield return text[..cut];
            text = text[cut..];
        }

        yield return text;
    }

    /// <summary>The cut itself, or the end of the special token that it would cut in two.</summary>
    private int AfterSpecialTokens(ReadOnlySpan<byte> text, int cut)
    {
        int position = 0;
        while (position < cut)
        {
            special.FindFirst(text[position..], out int start, out int length);
            if (position + start >= cut)
            {
                break;
            }

            position += start + length;
        }

        return Math.Max(position, cut);
    }
}
