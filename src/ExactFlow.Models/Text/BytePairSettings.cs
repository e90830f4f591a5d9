namespace ExactFlow.Models.Text;

/// <summary>What a byte-pair model does beside merging.</summary>
internal sealed record BytePairSettings
{
    /// <summary>Whether words are bytes written in the byte-level alphabet; otherwise they are characters.</summary>
    public bool IsByteLevel { get; init; }

    /// <summary>What stands for characters that are not in the vocabulary; null leaves them out.</summary>
    public string? UnknownToken { get; init; }

    /// <summary>Whether unknown characters that touch are one token.</summary>
    public bool FuseUnknown { get; init; }

    /// <summary>Whether the bytes of unknown characters stand for them (<c>&lt;0xE2&gt;</c>).</summary>
    public bool ByteFallback { get; init; }

    /// <summary>Whether a word that is in the vocabulary is taken whole, whatever merges would make of it.</summary>
    public bool IgnoreMerges { get; init; }
}
