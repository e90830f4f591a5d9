namespace ExactFlow.Training.Data;

/// <summary>What a file of a corpus holds.</summary>
public enum CorpusFormat
{
    /// <summary>Plain UTF-8 text.</summary>
    Text,

    /// <summary>One JSON object a line, one field of which is the text of a document.</summary>
    JsonLines,
}

/// <summary>A file of a corpus.</summary>
/// <param name="FullPath">Where it is.</param>
/// <param name="Name">Its name relative to what was asked for, with slashes.</param>
/// <param name="Length">Bytes on disk.</param>
/// <param name="Modified">When it was last written.</param>
/// <param name="Format">What it holds.</param>
/// <param name="Coding">How its bytes are stored.</param>
public sealed record CorpusFile(string FullPath, string Name, long Length, DateTime Modified, CorpusFormat Format, CorpusCoding Coding);
