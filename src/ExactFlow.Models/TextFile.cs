using ExactFlow.Tensors;

namespace ExactFlow.Models;

/// <summary>Reads small text files with errors for users.</summary>
internal static class TextFile
{
    private const long MaximumBytes = 64 << 20;

    /// <summary>The whole text of a file.</summary>
    /// <exception cref="InvalidInputException">Missing, unreadable, or far larger than such a file can be.</exception>
    public static string Read(string path)
    {
        try
        {
            long length = new FileInfo(path).Length;
            return length <= MaximumBytes
                ? File.ReadAllText(path)
                : throw new InvalidInputException($"Reading {path} was refused: it has {length:N0} bytes, and a file of its kind has at most {MaximumBytes:N0}.");
        }
        catch (Exception exception) when (exception is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new InvalidInputException($"Reading {path} failed: it does not exist; check the name.", exception);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new InvalidInputException($"Reading {path} failed: {exception.Message.TrimEnd('.')}; check its permissions and the disk.", exception);
        }
    }
}
