namespace ExactFlow.Training.Packing;

/// <summary>How far a packing has come.</summary>
/// <param name="File">The file being read.</param>
/// <param name="Files">Files done.</param>
/// <param name="TotalFiles">Files in all.</param>
/// <param name="Documents">Documents packed, earlier runs included.</param>
/// <param name="Tokens">Tokens packed.</param>
/// <param name="TextBytes">Bytes of text packed.</param>
public readonly record struct PackProgress(string File, int Files, int TotalFiles, long Documents, long Tokens, long TextBytes);
