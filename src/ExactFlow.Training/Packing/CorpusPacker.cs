using System.Globalization;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Files;
using ExactFlow.Training.Data;

namespace ExactFlow.Training.Packing;

/// <summary>
/// Encodes a corpus on all cores into shards of tokens. The text streams through: in memory are a few batches of it, whatever its size. Shards appear one by one, each whole, and
/// after each <c>packing.json</c> says where the text goes on: a packing that was stopped or killed goes on there, and the files are the same as if it had not been.
/// </summary>
public sealed class CorpusPacker
{
    private const string LockFile = "packing.lock";
    private const long SmallestWindow = 24 << 20;
    private const long WindowPerThread = 8 << 20;
    private readonly PackOptions options;
    private readonly Action<PackProgress> report;
    private readonly int threads;
    private readonly IReadOnlyList<CorpusFile> files;
    private readonly PackingTokenizer tokenizer;
    private CorpusManifest manifest;
    private long documents;
    private long tokens;
    private long textBytes;

    /// <summary>Checks what can be checked before any work: files, tokenizer, and what the folder holds already.</summary>
    /// <param name="options">What to pack.</param>
    /// <param name="report">Is told how far it has come, after each batch that was written.</param>
    /// <exception cref="InvalidInputException">A file is missing or has an unknown format, the tokenizer cannot be used, or the folder holds something else.</exception>
    public CorpusPacker(PackOptions options, Action<PackProgress>? report = null)
    {
        this.options = options ?? throw new ArgumentNullException(nameof(options));
        this.report = report ?? (_ => { });
        threads = options.Threads > 0 ? options.Threads : Environment.ProcessorCount;
        tokenizer = PackingTokenizer.Load(options.Tokenizer, options.DocumentToken);
        files = CorpusFiles.Find(options.Text);
        CorpusManifest asked = Ask();
        manifest = Earlier(asked) ?? asked;
    }

    /// <summary>Whether an earlier packing had packed something already.</summary>
    public bool GoesOn => manifest.Shards.Count > 0;

    /// <summary>Packs what is not packed yet.</summary>
    /// <param name="stop">Asks to stop; the shards that are whole stay, and the same options go on from there.</param>
    /// <returns>Whether the corpus is whole.</returns>
    /// <exception cref="InvalidInputException">A file cannot be read or is damaged, a line has no such field, or the disk is full: no corpus, but the whole shards stay.</exception>
    public bool Run(CancellationToken stop)
    {
        if (File.Exists(Path.Combine(options.Output, CorpusManifest.FileName)))
        {
            return true;
        }

        bool isNew = !Directory.Exists(options.Output);
        FileStream held = Hold();
        try
        {
            using (held)
            {
                return Pack(stop);
            }
        }
        catch (Exception exception)
        {
            DiscardBeginning(isNew);
            if (exception is IOException or UnauthorizedAccessException)
            {
                throw CannotWrite(exception);
            }

            throw;
        }
    }

    /// <summary>Whether a packing that was killed before it had begun in earnest left this behind.</summary>
    private static bool IsBeginning(string path) => Path.GetFileName(path) is LockFile or PackedCorpus.TokenizerFile or PackedCorpus.TokenizerFile + ".tmp" or CorpusManifest.ProgressFileName + ".tmp";

    private static string ShardName(int index) => string.Create(CultureInfo.InvariantCulture, $"shard-{index:00000}.tokens");

    /// <summary>Makes the folder and keeps other packings out of it as long as the stream is open.</summary>
    private FileStream Hold()
    {
        try
        {
            Directory.CreateDirectory(options.Output);
            return new FileStream(Path.Combine(options.Output, LockFile), FileMode.OpenOrCreate, FileAccess.Write, FileShare.None, 1, FileOptions.DeleteOnClose);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw CannotWrite(exception);
        }
    }

    private InvalidInputException CannotWrite(Exception exception)
        => new($"Cannot pack into the folder '{options.Output}': {exception.Message.TrimEnd('.')}; check its permissions and whether another packing is writing there.", exception);

    private bool Pack(CancellationToken stop)
    {
        AtomicFile.WriteAllBytes(Path.Combine(options.Output, PackedCorpus.TokenizerFile), tokenizer.Json);
        manifest.Save(options.Output, CorpusManifest.ProgressFileName);
        if (!PackShards(stop))
        {
            return false;
        }

        if (manifest.Shards.Count == 0)
        {
            throw new InvalidInputException($"There is nothing to pack: {files.Count} file{(files.Count == 1 ? " holds" : "s hold")} no text; name other files.");
        }

        manifest.Save(options.Output, CorpusManifest.FileName);
        File.Delete(Path.Combine(options.Output, CorpusManifest.ProgressFileName));
        return true;
    }

    private bool PackShards(CancellationToken stop)
    {
        using BatchEncoder encoder = new(tokenizer, options.Field, threads, Math.Max(SmallestWindow, threads * WindowPerThread));
        ShardWriter? shard = null;
        try
        {
            foreach ((CorpusBatch source, PackedBatch packed) in encoder.Encode(new CorpusReader(files, options.DocumentStart).Read(manifest.Next), stop))
            {
                if (packed.Documents.Count > 0)
                {
                    shard ??= new ShardWriter(Path.Combine(options.Output, ShardName(manifest.Shards.Count)), tokenizer);
                    shard.Append(packed);
                }

                Report(source, packed);
                if (shard?.Tokens >= options.ShardTokens)
                {
                    Commit(shard, source.End);
                    shard.Dispose();
                    shard = null;
                }
            }

            if (stop.IsCancellationRequested)
            {
                return false;
            }

            if (shard is not null)
            {
                Commit(shard, new CorpusPosition(files.Count, 0));
            }

            return true;
        }
        finally
        {
            shard?.Dispose();
        }
    }

    private void Commit(ShardWriter shard, CorpusPosition next)
    {
        string name = ShardName(manifest.Shards.Count);
        ShardHeader header = shard.Commit();
        manifest = manifest with { Shards = [.. manifest.Shards, new ManifestShard(name, header.Documents, header.Tokens, header.TextBytes, header.Checksum)], Next = next };
        manifest.Save(options.Output, CorpusManifest.ProgressFileName);
    }

    private void Report(CorpusBatch source, PackedBatch packed)
    {
        documents += packed.Documents.Count;
        tokens += packed.Tokens.Length / tokenizer.BytesPerToken;
        textBytes += packed.TextBytes;
        report(new PackProgress(source.File.FullPath, source.First.File, files.Count, documents, tokens, textBytes));
    }

    private CorpusManifest Ask() => new()
    {
        TokenizerHash = tokenizer.Hash,
        VocabularySize = tokenizer.VocabularySize,
        DocumentToken = tokenizer.DocumentToken,
        DocumentTokenText = tokenizer.DocumentText,
        Field = options.Field,
        DocumentStart = options.DocumentStart,
        ShardTokens = options.ShardTokens,
        Sources = [.. files.Select(file => new ManifestSource(file.FullPath, file.Length, file.Modified))],
        Shards = [],
    };

    /// <summary>What an earlier packing of the same text left in the folder, or null if it left nothing.</summary>
    private CorpusManifest? Earlier(CorpusManifest asked)
    {
        CorpusManifest? earlier = CorpusManifest.TryLoad(options.Output, CorpusManifest.FileName) ?? CorpusManifest.TryLoad(options.Output, CorpusManifest.ProgressFileName);
        if (earlier is null)
        {
            return !Path.Exists(options.Output) || (Directory.Exists(options.Output) && Directory.EnumerateFileSystemEntries(options.Output).All(IsBeginning))
                ? null
                : throw new InvalidInputException($"Cannot pack into '{options.Output}': something else is there already; name a new or empty folder with --output.");
        }

        if (earlier.DifferenceTo(asked) is { } difference)
        {
            throw new InvalidInputException($"Cannot go on packing into '{options.Output}': what is there was packed with {difference}; restore that, or name a new folder with --output.");
        }

        foreach (ManifestShard shard in earlier.Shards)
        {
            using TokenShard opened = TokenShard.Open(Path.Combine(options.Output, shard.File));
            PackedCorpus.RequireListed(opened, shard, earlier);
        }

        documents = earlier.Shards.Sum(shard => shard.Documents);
        tokens = earlier.Shards.Sum(shard => shard.Tokens);
        textBytes = earlier.Shards.Sum(shard => shard.TextBytes);
        return earlier;
    }

    /// <summary>A packing that failed before its first shard leaves the folder as it was.</summary>
    private void DiscardBeginning(bool isNew)
    {
        if (manifest.Shards.Count > 0 || !Directory.Exists(options.Output))
        {
            return;
        }

        File.Delete(Path.Combine(options.Output, CorpusManifest.ProgressFileName));
        File.Delete(Path.Combine(options.Output, PackedCorpus.TokenizerFile));
        if (isNew)
        {
            Directory.Delete(options.Output);
        }
    }
}
