using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Files;
using ExactFlow.Training.Data;

namespace ExactFlow.Training.Packing;

/// <summary>What a packed corpus was made of and how, and its shards: <c>corpus.json</c> when it is whole, <c>packing.json</c> until then.</summary>
public sealed record CorpusManifest
{
    /// <summary>The file of a whole corpus.</summary>
    public const string FileName = "corpus.json";

    /// <summary>The file while the corpus is being packed.</summary>
    internal const string ProgressFileName = "packing.json";

    private static readonly JsonSerializerOptions Format = new()
    {
        WriteIndented = true,
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
        RespectNullableAnnotations = true,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    /// <summary>Format version.</summary>
    public int Version { get; init; } = 1;

    /// <summary>SHA-256 of the tokenizer.json beside this file.</summary>
    public required string TokenizerHash { get; init; }

    /// <summary>Number of token ids.</summary>
    public required int VocabularySize { get; init; }

    /// <summary>The token that every document begins with.</summary>
    public required int DocumentToken { get; init; }

    /// <summary>Its content.</summary>
    public required string DocumentTokenText { get; init; }

    /// <summary>The field of JSON lines that was taken.</summary>
    public required string Field { get; init; }

    /// <summary>With what the first line of every document of a text begins; null where a file is one document.</summary>
    public string? DocumentStart { get; init; }

    /// <summary>Tokens after which a shard ends.</summary>
    public required long ShardTokens { get; init; }

    /// <summary>The files that were read.</summary>
    public required IReadOnlyList<ManifestSource> Sources { get; init; }

    /// <summary>The shards, in the order of the documents.</summary>
    public required IReadOnlyList<ManifestShard> Shards { get; init; }

    /// <summary>Where the text goes on that no shard holds yet.</summary>
    public CorpusPosition Next { get; init; }

    /// <summary>Reads a manifest; null where there is none.</summary>
    /// <exception cref="InvalidInputException">It cannot be read.</exception>
    internal static CorpusManifest? TryLoad(string folder, string name)
    {
        string path = Path.Combine(folder, name);
        try
        {
            CorpusManifest? manifest = File.Exists(path) ? JsonSerializer.Deserialize<CorpusManifest>(File.ReadAllBytes(path), Format) : null;
            return manifest is null or { Version: 1 } ? manifest : throw new JsonException($"version {manifest.Version} where 1 is expected");
        }
        catch (Exception exception) when (exception is JsonException or IOException or UnauthorizedAccessException)
        {
            throw new InvalidInputException($"The list '{path}' of a packed corpus cannot be read: {exception.Message.TrimEnd('.')}; pack the text again into an empty folder.", exception);
        }
    }

    /// <summary>Writes the manifest.</summary>
    internal void Save(string folder, string name) => AtomicFile.WriteAllText(Path.Combine(folder, name), JsonSerializer.Serialize(this, Format) + "\n");

    /// <summary>What differs between this and what is asked for now, in words; null if nothing does.</summary>
    internal string? DifferenceTo(CorpusManifest asked)
    {
        if (TokenizerHash != asked.TokenizerHash)
        {
            return $"another tokenizer (SHA-256 {TokenizerHash[..Math.Min(12, TokenizerHash.Length)]}…, now {asked.TokenizerHash[..12]}…)";
        }

        ManifestSource? changed = Sources.Except(asked.Sources).Concat(asked.Sources.Except(Sources)).FirstOrDefault();
        return DocumentToken != asked.DocumentToken ? $"documents that begin with {DocumentTokenText} instead of {asked.DocumentTokenText}"
            : Field != asked.Field ? $"the field '{Field}' instead of '{asked.Field}'"
            : DocumentStart != asked.DocumentStart ? $"documents that start with '{DocumentStart}' instead of '{asked.DocumentStart}'"
            : ShardTokens != asked.ShardTokens ? $"shards of {ShardTokens} tokens instead of {asked.ShardTokens}"
            : changed is not null ? $"other files ('{changed.Path}' is not the same now)"
            : Sources.SequenceEqual(asked.Sources) ? null : "the files in another order";
    }
}

/// <summary>A file that was read.</summary>
/// <param name="Path">Where it was.</param>
/// <param name="Bytes">Its length.</param>
/// <param name="Modified">When it was last written.</param>
public sealed record ManifestSource(string Path, long Bytes, DateTime Modified);

/// <summary>A shard of a packed corpus.</summary>
/// <param name="File">Its name in the folder.</param>
/// <param name="Documents">Number of documents.</param>
/// <param name="Tokens">Number of tokens.</param>
/// <param name="TextBytes">Bytes of text.</param>
/// <param name="Checksum">The checksum in its header.</param>
public sealed record ManifestShard(string File, long Documents, long Tokens, long TextBytes, string Checksum);
