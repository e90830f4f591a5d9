using System.ComponentModel;
using System.ComponentModel.DataAnnotations;

namespace ExactFlow.Training.Options;

/// <summary>Where the text comes from and how it is cut.</summary>
public sealed record DataOptions
{
    /// <summary>The field that the text is in, in most corpora.</summary>
    public const string DefaultField = "text";

    /// <summary>Files, folders or patterns with the text, JSON lines and Parquet too; none: the English prose of the .NET reference documentation on this machine.</summary>
    [Description("files (text, JSON lines, Parquet) or folders, comma-separated; none means the .NET reference documentation that ships with the SDK")]
    public string[] Text { get; init; } = [];

    /// <summary>Files or folders with the validation text; none: a part of the text that training never sees.</summary>
    [Description("validation text files or folders; none means data.validation_fraction of the text is held out")]
    public string[] ValidationText { get; init; } = [];

    /// <summary>Field of JSON lines, or column of Parquet, that holds the text.</summary>
    [Description("field of JSON lines, or column of Parquet, that holds the text")]
    [Required]
    public string Field { get; init; } = DefaultField;

    /// <summary>Part of the text held out when no validation text is given.</summary>
    [Description("part of the text held out for validation when data.validation_text is empty")]
    [Range(0.0001, 0.5)]
    public double ValidationFraction { get; init; } = 0.02;

    /// <summary>A folder that <c>exactflow data pack</c> wrote, to be read instead of text; null: the text is read and encoded.</summary>
    [Description("folder written by 'exactflow data pack', read instead of data.text; null reads text")]
    public string? Packed { get; init; }

    /// <summary>How windows read documents: <c>stream</c> as one text, <c>documents</c> so that no document sees another.</summary>
    [Description("stream: one text, documents follow one another; documents: state and convolutions begin anew with every document")]
    [AllowedValues("stream", "documents")]
    public string Packing { get; init; } = "stream";

    /// <summary>A tokenizer.json to use; null: a byte-level BPE is trained on the training text.</summary>
    [Description("tokenizer.json to use; null trains a byte-level BPE on the training text")]
    public string? Tokenizer { get; init; }

    /// <summary>Size of the vocabulary when the tokenizer is trained.</summary>
    [Description("vocabulary of the tokenizer that is trained")]
    [Range(257, 1_000_000)]
    public int Vocabulary { get; init; } = 4096;

    /// <summary>Tokens a window gives as inputs.</summary>
    [Description("tokens per sequence")]
    [Range(1, 1 << 24)]
    public int SequenceLength { get; init; } = 256;

    /// <summary>Sequences that go through the model at once.</summary>
    [Description("sequences per batch")]
    [Range(1, 1 << 16)]
    public int BatchSize { get; init; } = 8;

    /// <summary>Batches whose gradients are averaged into one step.</summary>
    [Description("batches whose gradients are averaged into one step")]
    [Range(1, 1 << 16)]
    public int Accumulation { get; init; } = 1;
}
