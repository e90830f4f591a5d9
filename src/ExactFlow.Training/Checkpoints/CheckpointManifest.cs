using System.Security.Cryptography;
using System.Text.Encodings.Web;
using System.Text.Json;
using ExactFlow.Tensors.Files;

namespace ExactFlow.Training.Checkpoints;

/// <summary>
/// The list of a checkpoint's files with sizes and SHA-256. It is written last, so a folder with a manifest is complete, and a folder without one is no checkpoint.
/// </summary>
internal static class CheckpointManifest
{
    public const string FileName = "manifest.json";

    private const int Version = 1;
    private static readonly JsonSerializerOptions Format = new()
    {
        WriteIndented = true,
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    /// <summary>Hashes the files of a folder.</summary>
    public static string Describe(string folder)
    {
        var files = new SortedDictionary<string, Entry>(StringComparer.Ordinal);
        foreach (string path in Directory.GetFiles(folder))
        {
            files.Add(Path.GetFileName(path), Measure(path));
        }

        return JsonSerializer.Serialize(new Document(Version, files), Format) + "\n";
    }

    /// <summary>Writes a manifest into a folder, last of all.</summary>
    public static void Write(string folder, string manifest) => AtomicFile.WriteAllText(Path.Combine(folder, FileName), manifest);

    /// <summary>What is wrong with a folder, naming the file; null when every file is as the manifest says.</summary>
    public static string? FindDamage(string folder)
    {
        try
        {
            string path = Path.Combine(folder, FileName);
            if (!File.Exists(path))
            {
                return $"it has no {FileName}, so it was never completed";
            }

            Document? document = JsonSerializer.Deserialize<Document>(File.ReadAllText(path), Format);
            if (document?.Files is not { Count: > 0 } files || document.Version != Version)
            {
                return $"{FileName} is not a manifest of version {Version}";
            }

            foreach ((string name, Entry expected) in files)
            {
                if (FindDamage(Path.Combine(folder, name), name, expected) is { } damage)
                {
                    return damage;
                }
            }

            return null;
        }
        catch (JsonException exception)
        {
            return $"{FileName} is not valid JSON ({exception.Message.TrimEnd('.')})";
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            return exception.Message.TrimEnd('.');
        }
    }

    private static string? FindDamage(string path, string name, Entry expected)
    {
        if (name != Path.GetFileName(name) || expected is null)
        {
            return $"{FileName} lists '{name}', which is not a file of this folder";
        }

        if (!File.Exists(path))
        {
            return $"{name} is missing";
        }

        long size = new FileInfo(path).Length;
        if (size != expected.Bytes)
        {
            return $"{name} has {size} bytes where the manifest says {expected.Bytes}";
        }

        return Measure(path).Sha256 == expected.Sha256 ? null : $"{name} is not what was written (its SHA-256 differs from the manifest's)";
    }

    private static Entry Measure(string path)
    {
        using FileStream stream = File.OpenRead(path);
        return new Entry(stream.Length, Convert.ToHexStringLower(SHA256.HashData(stream)));
    }

    private sealed record Document(int Version, SortedDictionary<string, Entry> Files);

    private sealed record Entry(long Bytes, string Sha256);
}
