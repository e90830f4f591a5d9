using ExactFlow.Tensors;

namespace ExactFlow.Training.Data;

/// <summary>Finds and reads the text of a run: files, folders of <c>.txt</c> and <c>.md</c> files, or, if nothing is named, the .NET reference documentation of this machine.</summary>
public static class TextSource
{
    /// <summary>Reads the text of a run.</summary>
    /// <param name="text">Files and folders; none for <see cref="ReferenceDocumentation"/>.</param>
    /// <param name="validationText">Files and folders to validate on; none to hold out part of the text.</param>
    /// <param name="validationFraction">
    /// The part of the bytes to hold out, about: whole files, chosen by a hash of their names, or the end of the text where files are too few or too large for that.
    /// </param>
    /// <exception cref="InvalidInputException">Missing, unreadable, empty or binary files, or a file that is both text and validation text.</exception>
    public static TextCorpus Load(IReadOnlyList<string> text, IReadOnlyList<string> validationText, double validationFraction)
    {
        ArgumentNullException.ThrowIfNull(text);
        ArgumentNullException.ThrowIfNull(validationText);
        if (text.Count == 0)
        {
            return validationText.Count == 0
                ? ReferenceDocumentation.Load(validationFraction)
                : throw new InvalidInputException("Validation text was named, but no text to train on; name that too, or neither.");
        }

        List<TextFile> files = Find(text);
        string source = string.Join(", ", text.Select(path => $"'{path}'"));
        if (validationText.Count > 0)
        {
            List<TextFile> validationFiles = Find(validationText);
            if (files.Find(file => validationFiles.Exists(other => other.FullPath == file.FullPath)) is { } both)
            {
                throw new InvalidInputException($"'{both.FullPath}' is both text to train on and validation text; leave it out of one, or name no validation text to hold part of it out.");
            }

            return new TextCorpus(source, Join(files), Join(validationFiles), files.Count, validationFiles.Count);
        }

        HashSet<string> held = HeldOut.Choose(files.Select(file => (file.Name, file.Length)), validationFraction);
        return held.Count > 0
            ? new TextCorpus(source, Join(files.Where(file => !held.Contains(file.Name))), Join(files.Where(file => held.Contains(file.Name))), files.Count - held.Count, held.Count)
            : HoldOutTheEnd(source, Join(files), files.Count, validationFraction);
    }

    /// <summary>Reads files and folders whole, one text after another.</summary>
    /// <exception cref="InvalidInputException">Missing, unreadable or binary files.</exception>
    public static ReadOnlyMemory<byte> Read(IReadOnlyList<string> text)
    {
        ArgumentNullException.ThrowIfNull(text);
        return Join(Find(text));
    }

    /// <summary>Cuts at the beginning of a line, or of a word where the text has no lines.</summary>
    private static TextCorpus HoldOutTheEnd(string source, byte[] all, int files, double fraction)
    {
        int wanted = (int)(all.Length * (1 - fraction));
        int line = all.AsSpan(wanted).IndexOf((byte)'\n');
        int blank = all.AsSpan(wanted).IndexOf((byte)' ');
        int skip = line >= 0 && line < (all.Length - wanted) / 2 ? line + 1 : Math.Max(0, blank);
        return new TextCorpus(source, all.AsMemory(0, wanted + skip), all.AsMemory(wanted + skip), files, 0);
    }

    private static List<TextFile> Find(IReadOnlyList<string> paths)
    {
        List<TextFile> files = [];
        foreach (string path in paths)
        {
            if (Directory.Exists(path))
            {
                files.AddRange(FindInFolder(path));
            }
            else if (File.Exists(path))
            {
                files.Add(new TextFile(Path.GetFullPath(path), Path.GetFileName(path), new FileInfo(path).Length));
            }
            else
            {
                throw new InvalidInputException($"Cannot read the text '{path}': there is no such file or folder; check the name.");
            }
        }

        return [.. files.DistinctBy(file => file.FullPath, StringComparer.Ordinal)];
    }

    /// <summary>Text files of a folder and those below it, in the ordinal order of their names relative to it. Links to folders are not followed: they may go round.</summary>
    private static List<TextFile> FindInFolder(string folder)
    {
        EnumerationOptions options = new() { RecurseSubdirectories = true, AttributesToSkip = FileAttributes.Hidden | FileAttributes.System, IgnoreInaccessible = false };
        try
        {
            System.IO.Enumeration.FileSystemEnumerable<string> paths = new(folder, (ref entry) => entry.ToFullPath(), options)
            {
                ShouldIncludePredicate = (ref entry) => !entry.IsDirectory && Path.GetExtension(entry.FileName) is ".txt" or ".md",
                ShouldRecursePredicate = (ref entry) => !entry.Attributes.HasFlag(FileAttributes.ReparsePoint),
            };
            List<TextFile> files = [.. paths
                .Select(path => new TextFile(Path.GetFullPath(path), Path.GetRelativePath(folder, path).Replace('\\', '/'), new FileInfo(path).Length))
                .OrderBy(file => file.Name, StringComparer.Ordinal)];
            return files.Count > 0 ? files : throw new InvalidInputException($"The folder '{folder}' holds no .txt or .md files, nor do those in it; name the folder of the text.");
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new InvalidInputException($"Cannot read the folder '{folder}': {exception.Message.TrimEnd('.')}; check its permissions.", exception);
        }
    }

    /// <summary>The contents of files one after another, each ended by a line feed.</summary>
    private static byte[] Join(IEnumerable<TextFile> files)
    {
        using MemoryStream all = new();
        foreach (TextFile file in files)
        {
            ReadOnlySpan<byte> contents = ReadFile(file.FullPath);
            if (all.Length + contents.Length + 1 > Array.MaxLength)
            {
                throw new InvalidInputException($"The text is larger than {Array.MaxLength} bytes, with '{file.FullPath}' at the latest; name fewer files.");
            }

            all.Write(contents);
            if (contents is not [] and not [.., (byte)'\n'])
            {
                all.WriteByte((byte)'\n');
            }
        }

        return all.ToArray();
    }

    private static ReadOnlySpan<byte> ReadFile(string path)
    {
        byte[] contents;
        try
        {
            contents = File.ReadAllBytes(path);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new InvalidInputException($"Cannot read the text '{path}': {exception.Message.TrimEnd('.')}; check its permissions.", exception);
        }

        int zero = Array.IndexOf(contents, (byte)0);
        if (zero >= 0)
        {
            throw new InvalidInputException($"Cannot train on '{path}': it is no text, byte {zero} is zero; name a UTF-8 text file (UTF-16 must be converted).");
        }

        ReadOnlySpan<byte> byteOrderMark = [0xEF, 0xBB, 0xBF];
        return contents.AsSpan().StartsWith(byteOrderMark) ? contents.AsSpan(byteOrderMark.Length) : contents;
    }

    private sealed record TextFile(string FullPath, string Name, long Length);
}
