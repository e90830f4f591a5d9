using System.Security.Cryptography;
using ExactFlow.Models;
using ExactFlow.Models.Text;
using ExactFlow.Tensors;

namespace ExactFlow.Training.Packing;

/// <summary>A folder of shards that <c>exactflow data pack</c> wrote: documents of tokens, mapped into memory, with the tokenizer they went through.</summary>
public sealed class PackedCorpus : IDisposable
{
    /// <summary>The tokenizer's file within the folder.</summary>
    internal const string TokenizerFile = ModelFolder.TokenizerFile;

    private readonly TokenShard[] shards;
    private readonly long[] firstTokens;
    private readonly long[] firstDocuments;

    private PackedCorpus(string folder, CorpusManifest manifest, TokenShard[] shards)
    {
        Folder = folder;
        Manifest = manifest;
        this.shards = shards;
        firstTokens = Sums(shards.Select(shard => shard.Header.Tokens));
        firstDocuments = Sums(shards.Select(shard => shard.Header.Documents));
    }

    /// <summary>The folder.</summary>
    public string Folder { get; }

    /// <summary>What the corpus was made of.</summary>
    public CorpusManifest Manifest { get; }

    /// <summary>The shards, in the order of the documents.</summary>
    public IReadOnlyList<TokenShard> Shards => shards;

    /// <summary>Documents of all shards.</summary>
    public long Documents => firstDocuments[^1];

    /// <summary>Tokens of all shards.</summary>
    public long Tokens => firstTokens[^1];

    /// <summary>Bytes of text that was encoded.</summary>
    public long TextBytes => shards.Sum(shard => shard.Header.TextBytes);

    /// <summary>The tokenizer's file.</summary>
    public string TokenizerPath => Path.Combine(Folder, TokenizerFile);

    /// <summary>Opens a packed corpus and checks that its files belong together.</summary>
    /// <exception cref="InvalidInputException">It is missing or unfinished, a shard is cut off or damaged, or the tokenizer is another.</exception>
    public static PackedCorpus Open(string folder)
    {
        ArgumentException.ThrowIfNullOrEmpty(folder);
        CorpusManifest manifest = CorpusManifest.TryLoad(folder, CorpusManifest.FileName)
            ?? throw new InvalidInputException(File.Exists(Path.Combine(folder, CorpusManifest.ProgressFileName))
                ? $"The packed corpus '{folder}' is not finished; the same 'exactflow data pack' command goes on with it."
                : $"There is no packed corpus in '{folder}': it has no {CorpusManifest.FileName}; make one with 'exactflow data pack'.");
        RequireTokenizer(folder, manifest);
        List<TokenShard> shards = [];
        try
        {
            foreach (ManifestShard listed in manifest.Shards)
            {
                shards.Add(TokenShard.Open(Path.Combine(folder, Path.GetFileName(listed.File))));
                RequireListed(shards[^1], listed, manifest);
            }

            return shards.Count > 0 ? new PackedCorpus(folder, manifest, [.. shards]) : throw new InvalidInputException($"The packed corpus '{folder}' lists no shards; pack the text again.");
        }
        catch
        {
            shards.ForEach(shard => shard.Dispose());
            throw;
        }
    }

    /// <summary>Reads all shards, several at a time, and checks their checksums.</summary>
    /// <returns>This corpus.</returns>
    /// <exception cref="InvalidInputException">A shard was changed since it was written.</exception>
    public PackedCorpus Verify(int threads = 0)
    {
        try
        {
            Parallel.ForEach(shards, new ParallelOptions { MaxDegreeOfParallelism = threads > 0 ? threads : Environment.ProcessorCount }, shard => shard.Verify());
        }
        catch (AggregateException exception) when (exception.InnerExceptions[0] is InvalidInputException first)
        {
            throw new InvalidInputException(first.Message, first);
        }

        return this;
    }

    /// <summary>The first token of a document, counted through all shards; of the number of documents: the number of tokens.</summary>
    public long Start(long document)
    {
        int shard = Find(firstDocuments, document);
        return firstTokens[shard] + shards[shard].Start(document - firstDocuments[shard]);
    }

    /// <summary>The key of a document: equal texts have equal keys.</summary>
    public ulong Key(long document)
    {
        int shard = Find(firstDocuments, document);
        return shards[shard].Key(document - firstDocuments[shard]);
    }

    /// <summary>Reads tokens, counted through all shards.</summary>
    /// <param name="start">The first one.</param>
    /// <param name="destination">Filled completely.</param>
    public void Read(long start, Span<int> destination)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(start);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(start, Tokens - destination.Length);
        for (int shard = Find(firstTokens, start); !destination.IsEmpty; shard++)
        {
            int count = (int)Math.Min(destination.Length, firstTokens[shard + 1] - start);
            shards[shard].Read(start - firstTokens[shard], destination[..count]);
            destination = destination[count..];
            start += count;
        }
    }

    /// <summary>The tokenizer.</summary>
    public BytePairTokenizer LoadTokenizer() => BytePairTokenizer.Load(TokenizerPath);

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (TokenShard shard in shards)
        {
            shard.Dispose();
        }
    }

    /// <summary>Refuses a shard that is not the one that was listed, or went through another tokenizer.</summary>
    internal static void RequireListed(TokenShard shard, ManifestShard listed, CorpusManifest manifest)
    {
        if (shard.Header.TokenizerHash != manifest.TokenizerHash || shard.Header.VocabularySize != manifest.VocabularySize || shard.Header.DocumentToken != manifest.DocumentToken)
        {
            throw new InvalidInputException($"Shard '{shard.Path}' was packed with another tokenizer than its corpus (SHA-256 {shard.Header.TokenizerHash[..12]}…): put the right shard there, or pack the text again.");
        }

        if (shard.Header.Checksum != listed.Checksum || shard.Header.Documents != listed.Documents || shard.Header.Tokens != listed.Tokens)
        {
            throw new InvalidInputException($"Shard '{shard.Path}' is not the one that its corpus lists (SHA-256 {listed.Checksum[..Math.Min(12, listed.Checksum.Length)]}…, but it is {shard.Header.Checksum[..12]}…): put the right shard there, or pack the text again.");
        }
    }

    /// <summary>SHA-256 of a file.</summary>
    internal static string HashOf(string path)
    {
        try
        {
            return Convert.ToHexStringLower(SHA256.HashData(File.ReadAllBytes(path)));
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new InvalidInputException($"Cannot read the tokenizer '{path}': {exception.Message.TrimEnd('.')}; put the file there, or pack the text again.", exception);
        }
    }

    private static void RequireTokenizer(string folder, CorpusManifest manifest)
    {
        string hash = HashOf(Path.Combine(folder, TokenizerFile));
        if (hash != manifest.TokenizerHash)
        {
            throw new InvalidInputException($"The tokenizer in '{folder}' is not the one that the corpus was packed with (SHA-256 {hash[..12]}…): put that one there, or pack the text again.");
        }
    }

    private static long[] Sums(IEnumerable<long> counts)
    {
        List<long> sums = [0];
        foreach (long count in counts)
        {
            sums.Add(sums[^1] + count);
        }

        return [.. sums];
    }

    /// <summary>The last shard that begins at or before a place; the end belongs to the last shard.</summary>
    private static int Find(long[] firsts, long place)
    {
        int index = Array.BinarySearch(firsts, place);
        return Math.Min(index >= 0 ? index : ~index - 1, firsts.Length - 2);
    }
}
