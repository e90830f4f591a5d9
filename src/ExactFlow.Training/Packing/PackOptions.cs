namespace ExactFlow.Training.Packing;

/// <summary>What to pack, and how.</summary>
public sealed record PackOptions
{
    /// <summary>Tokens of a shard unless said otherwise: 2^25, some 64 MB.</summary>
    public const long DefaultShardTokens = 1 << 25;

    /// <summary>Files, folders and patterns, as <see cref="Data.CorpusFiles"/> takes them.</summary>
    public required IReadOnlyList<string> Text { get; init; }

    /// <summary>A tokenizer.json, or a folder with one.</summary>
    public required string Tokenizer { get; init; }

    /// <summary>The folder to write; it may hold what an earlier packing with the same options left when it was stopped.</summary>
    public required string Output { get; init; }

    /// <summary>The field of JSON lines that holds the text.</summary>
    public string Field { get; init; } = "text";

    /// <summary>With what the first line of every document of a text begins; null where a file is one document.</summary>
    public string? DocumentStart { get; init; }

    /// <summary>Content of the special token that every document begins with, or null for the usual one.</summary>
    public string? DocumentToken { get; init; }

    /// <summary>Tokens after which a shard ends, at the end of the batch of documents that reaches them.</summary>
    public long ShardTokens { get; init; } = DefaultShardTokens;

    /// <summary>Threads that encode, 0 for all.</summary>
    public int Threads { get; init; }
}
