using System.IO.Compression;

namespace ExactFlow.Training.Data;

/// <summary>Reads gzip files, and notices those that were cut off.</summary>
internal static class Gzip
{
    /// <summary>The framework looks at it once in a process, at the first file that is read. Without it, a file that was cut off ends early and silently.</summary>
    private const string StrictDecompression = "System.IO.Compression.UseStrictValidation";

    static Gzip() => AppContext.SetSwitch(StrictDecompression, true);

    /// <summary>The contents of a compressed stream, which ends with it.</summary>
    /// <exception cref="InvalidDataException">While reading: it is damaged or cut off.</exception>
    public static Stream Decompress(Stream stream) => new GZipStream(stream, CompressionMode.Decompress);
}
