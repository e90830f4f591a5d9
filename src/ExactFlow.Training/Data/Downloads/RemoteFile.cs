namespace ExactFlow.Training.Data.Downloads;

/// <summary>A gzip file that can be fetched, known by what it holds.</summary>
/// <param name="Name">Its name at the mirrors and here.</param>
/// <param name="ContentsBytes">Bytes that it holds, uncompressed.</param>
/// <param name="ContentsHash">SHA-256 of these, in lower-case hexadecimal: the same however a mirror compressed them.</param>
public sealed record RemoteFile(string Name, long ContentsBytes, string ContentsHash);
