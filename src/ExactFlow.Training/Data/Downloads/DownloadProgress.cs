namespace ExactFlow.Training.Data.Downloads;

/// <summary>How far a download is.</summary>
/// <param name="File">The file.</param>
/// <param name="Bytes">Bytes that are here.</param>
/// <param name="TotalBytes">Bytes that the server announced, or null.</param>
/// <param name="Event">What happened, in words, or null for another piece that arrived.</param>
public readonly record struct DownloadProgress(string File, long Bytes, long? TotalBytes, string? Event);
