using System.IO.Enumeration;
using System.Text;
using System.Text.RegularExpressions;
using ExactFlow.Tensors;

namespace ExactFlow.Training.Data;

/// <summary>
/// Finds the files of a corpus by names, folders and patterns. A folder stands for the <c>.txt</c>, <c>.md</c>, <c>.jsonl</c>, <c>.ndjson</c> files in it and below, each perhaps
/// with <c>.gz</c> or <c>.zst</c>, and the <c>.parquet</c> files; in a pattern, <c>*</c> and <c>?</c> stand for characters of a name and <c>**</c> for folders. A file that is named itself or by a
/// pattern may have any other ending: <c>.json</c> is taken for JSON lines, as many corpora call them (a folder's <c>.json</c> files mostly are something else), and the rest for text.
/// </summary>
public static class CorpusFiles
{
    private static readonly char[] Wildcards = ['*', '?'];

    /// <summary>The files, those of a folder or pattern in the ordinal order of their names; none twice.</summary>
    /// <exception cref="InvalidInputException">Something is missing or cannot be read.</exception>
    public static IReadOnlyList<CorpusFile> Find(IReadOnlyList<string> paths)
    {
        ArgumentNullException.ThrowIfNull(paths);
        List<CorpusFile> files = [];
        foreach (string path in paths)
        {
            files.AddRange(FindOne(path));
        }

        CorpusFile[] distinct = [.. files.DistinctBy(file => file.FullPath, StringComparer.Ordinal)];
        return distinct.Length > 0 ? distinct : throw new InvalidInputException("No text was named; give files, folders or patterns.");
    }

    /// <summary>A pattern's expression over paths with slashes: <c>**/</c> is any folders or none, <c>*</c> and <c>?</c> stay within a name.</summary>
    internal static Regex Expression(string pattern)
    {
        StringBuilder expression = new("^");
        for (int i = 0; i < pattern.Length; i++)
        {
            if (pattern.AsSpan(i).StartsWith("**/"))
            {
                expression.Append("(?:.*/)?");
                i += 2;
            }
            else
            {
                expression.Append(pattern[i] switch
                {
                    '*' when pattern.AsSpan(i).StartsWith("**") => ".*",
                    '*' => "[^/]*",
                    '?' => "[^/]",
                    char other => Regex.Escape(other.ToString()),
                });
                i += pattern.AsSpan(i).StartsWith("**") ? 1 : 0;
            }
        }

        return new Regex(expression.Append('$').ToString(), RegexOptions.CultureInvariant | RegexOptions.NonBacktracking);
    }

    private static IEnumerable<CorpusFile> FindOne(string path)
    {
        if (Directory.Exists(path))
        {
            CorpusFile[] files = [.. Enumerate(path, path, name => FormatOf(name) is not null && !HasEnding(name, ".json"))];
            return files.Length > 0
                ? files
                : throw new InvalidInputException($"The folder '{path}' holds no .txt, .md, .jsonl or .ndjson files (or these with .gz or .zst) and no .parquet files, nor do those in it; name the folder of the text, or the files.");
        }

        if (File.Exists(path))
        {
            return [Describe(path, Path.GetFileName(path))];
        }

        if (path.IndexOfAny(Wildcards) < 0)
        {
            throw new InvalidInputException($"Cannot read the text '{path}': there is no such file or folder; check the name.");
        }

        CorpusFile[] matching = [.. FindMatching(path)];
        return matching.Length > 0 ? matching : throw new InvalidInputException($"No file matches '{path}'; * and ? stand for characters of a name, ** for folders.");
    }

    private static IEnumerable<CorpusFile> FindMatching(string pattern)
    {
        string slashed = OperatingSystem.IsWindows() ? pattern.Replace('\\', '/') : pattern;
        int folderEnd = slashed.LastIndexOf('/', slashed.IndexOfAny(Wildcards));
        string folder = folderEnd < 0 ? "." : folderEnd == 0 ? "/" : slashed[..folderEnd];
        if (!Directory.Exists(folder))
        {
            throw new InvalidInputException($"No file matches '{pattern}': there is no folder '{folder}'; check the name.");
        }

        Regex expression = Expression(slashed[(folderEnd + 1)..]);
        return Enumerate(folder, pattern, expression.IsMatch);
    }

    /// <summary>Files of a folder and those below it. Links to folders are not followed: they may go round.</summary>
    private static IEnumerable<CorpusFile> Enumerate(string folder, string asked, Predicate<string> matches)
    {
        EnumerationOptions options = new() { RecurseSubdirectories = true, AttributesToSkip = FileAttributes.Hidden | FileAttributes.System, IgnoreInaccessible = false };
        try
        {
            FileSystemEnumerable<string> paths = new(folder, (ref entry) => entry.ToFullPath(), options)
            {
                ShouldIncludePredicate = (ref entry) => !entry.IsDirectory,
                ShouldRecursePredicate = (ref entry) => !entry.Attributes.HasFlag(FileAttributes.ReparsePoint),
            };
            return [.. paths
                .Select(path => (Path: path, Name: Path.GetRelativePath(folder, path).Replace('\\', '/')))
                .Where(file => matches(file.Name))
                .OrderBy(file => file.Name, StringComparer.Ordinal)
                .Select(file => Describe(file.Path, file.Name))];
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new InvalidInputException($"Cannot read the folder of '{asked}': {exception.Message.TrimEnd('.')}; check its permissions.", exception);
        }
    }

    private static CorpusFile Describe(string path, string name)
    {
        FileInfo info = new(path);
        return new CorpusFile(info.FullName, name, info.Length, info.LastWriteTimeUtc, FormatOf(name) ?? CorpusFormat.Text, CodingOf(name));
    }

    private static CorpusCoding CodingOf(string name) => Path.GetExtension(name).ToUpperInvariant() switch
    {
        ".GZ" => CorpusCoding.Gzip,
        ".ZST" or ".ZSTD" => CorpusCoding.Zstandard,
        ".PARQUET" => CorpusCoding.Parquet,
        _ => CorpusCoding.None,
    };

    private static CorpusFormat? FormatOf(string name)
    {
        return Path.GetExtension(Decoded(name)).ToUpperInvariant() switch
        {
            ".TXT" or ".MD" => CorpusFormat.Text,
            ".JSONL" or ".NDJSON" or ".JSON" or ".PARQUET" => CorpusFormat.JsonLines,
            _ => null,
        };
    }

    private static bool HasEnding(string name, string ending) => Decoded(name).EndsWith(ending, StringComparison.OrdinalIgnoreCase);

    /// <summary>The name without the ending of a compression.</summary>
    private static string Decoded(string name) => CodingOf(name) is CorpusCoding.Gzip or CorpusCoding.Zstandard ? Path.GetFileNameWithoutExtension(name) : name;
}
