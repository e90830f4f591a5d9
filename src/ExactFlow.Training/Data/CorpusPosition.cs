namespace ExactFlow.Training.Data;

/// <summary>A place in a corpus between two entries.</summary>
/// <param name="File">Index of a file.</param>
/// <param name="Entry">Documents (of text) or lines (of JSON) of that file before the place.</param>
public readonly record struct CorpusPosition(int File, long Entry);
