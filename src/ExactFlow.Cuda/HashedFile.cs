using System.Security.Cryptography;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Files;

namespace ExactFlow.Cuda;

/// <summary>A file of a cache: it begins with the SHA-256 of the rest, so that a damaged one is noticed, and is written under a temporary name and renamed.</summary>
internal static class HashedFile
{
    /// <summary>What was written, or null when there is no such file or it is damaged.</summary>
    public static byte[]? TryRead(string path)
    {
        try
        {
            byte[] entry = File.ReadAllBytes(path);
            return entry.Length > SHA256.HashSizeInBytes && SHA256.HashData(entry.AsSpan(SHA256.HashSizeInBytes)).AsSpan().SequenceEqual(entry.AsSpan(0, SHA256.HashSizeInBytes))
                ? entry[SHA256.HashSizeInBytes..]
                : null;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    /// <summary>Writes a file, and its folder where there is none; of several writers the last one counts.</summary>
    /// <exception cref="IOException">It could not be written.</exception>
    /// <exception cref="UnauthorizedAccessException">It may not be written.</exception>
    /// <exception cref="InvalidInputException">It could not be written.</exception>
    public static void Write(string path, ReadOnlySpan<byte> contents)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);

        // Under a name of this writer's own first: several processes may be at it.
        string own = $"{path}-{Guid.NewGuid():N}";
        AtomicFile.WriteAllBytes(own, [.. SHA256.HashData(contents), .. contents]);
        File.Move(own, path, overwrite: true);
    }
}
