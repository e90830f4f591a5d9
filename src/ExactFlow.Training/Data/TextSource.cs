using ExactFlow.Tensors;
using ExactFlow.Training.Options;
using ExactFlow.Training.Packing;

namespace ExactFlow.Training.Data;

/// <summary>Finds and reads the text of a run: files, folders of <c>.txt</c> and <c>.md</c> files, or, if nothing is named, the .NET reference documentation of this machine.</summary>
public static class TextSource
{
    /// <summary>Reads the text of a recipe; of a packed one, the validation text only: the rest stays where it is.</summary>
    /// <exception cref="InvalidInputException">As below, or a packed text that is missing or damaged.</exception>
    public static TextCorpus Load(DataOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        return options.Packed is null ? Load(options.Text, options.ValidationText, options.ValidationFraction) : PackedText.Load(options);
    }

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

            return Corpus(source, files, validationFiles);
        }

        HashSet<int> held = HeldOut.Choose([.. files.Select(file => (file.Name, file.Length))], validationFraction);
        return held.Count > 0
            ? Corpus(source, [.. files.Where((_, index) => !held.Contains(index))], [.. files.Where((_, index) => held.Contains(index))])
            : HoldOutTheEnd(source, files, validationFraction);
    }

    /// <summary>Reads files and folders whole, one text after another.</summary>
    /// <exception cref="InvalidInputException">Missing, unreadable or binary files.</exception>
    public static ReadOnlyMemory<byte> Read(IReadOnlyList<string> text)
    {
        ArgumentNullException.ThrowIfNull(text);
        return Join(Find(text)).Bytes;
    }

    private static TextCorpus Corpus(string source, List<TextFile> trainingFiles, List<TextFile> validationFiles)
    {
        JoinedText training = Join(trainingFiles), validation = Join(validationFiles);
        return new TextCorpus(source, training.Bytes, validation.Bytes, trainingFiles.Count, validationFiles.Count)
        {
            TrainingDocuments = training.Documents(),
            ValidationDocuments = validation.Documents(),
        };
    }

    /// <summary>Cuts at the beginning of a line, or of a word where the text has no lines.</summary>
    private static TextCorpus HoldOutTheEnd(string source, List<TextFile> files, double fraction)
    {
        JoinedText text = Join(files);
        int cut = Math.Max(Math.Min(1, text.Bytes.Length), (int)(text.Bytes.Length * (1 - fraction)));

        // The search begins one byte earlier: a cut that is the beginning of a line already stays.
        ReadOnlySpan<byte> rest = text.Bytes.Span[Math.Max(0, cut - 1)..];
        int line = rest.IndexOf((byte)'\n'), blank = rest.IndexOf((byte)' ');
        cut += line >= 0 && line < rest.Length / 2 ? line : blank >= 0 ? blank - 1 : 0;
        return new TextCorpus(source, text.Bytes[..cut], text.Bytes[cut..], files.Count, 0)
        {
            TrainingDocuments = text.Documents(0, cut),
            ValidationDocuments = text.Documents(cut),
        };
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
    private static JoinedText Join(IEnumerable<TextFile> files)
    {
        using MemoryStream all = new();
        List<long> ends = [];
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

            ends.Add(all.Length);
        }

        return new JoinedText(all, ends);
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
