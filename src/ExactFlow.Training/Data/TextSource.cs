using ExactFlow.Tensors;
using ExactFlow.Training.Options;
using ExactFlow.Training.Packing;

namespace ExactFlow.Training.Data;

/// <summary>
/// Finds and reads the text of a run, all of it into memory: files, folders and patterns of everything that <see cref="CorpusFiles"/> knows, or, if nothing is named, the .NET reference
/// documentation of this machine.
/// </summary>
public static class TextSource
{
    /// <summary>Reads the text of a recipe; of a packed one, the validation text only: the rest stays where it is.</summary>
    /// <exception cref="InvalidInputException">As below, or a packed text that is missing or damaged.</exception>
    public static TextCorpus Load(DataOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        return options.Packed is null ? Load(options.Text, options.ValidationText, options.ValidationFraction, options.Field) : PackedText.Load(options);
    }

    /// <summary>Reads the text of a run.</summary>
    /// <param name="text">Files and folders; none for <see cref="ReferenceDocumentation"/>.</param>
    /// <param name="validationText">Files and folders to validate on; none to hold out part of the text.</param>
    /// <param name="validationFraction">
    /// The part of the bytes to hold out, about: whole files, chosen by a hash of their names, or the end of the text where files are too few or too large for that.
    /// </param>
    /// <param name="field">Field of JSON lines, or column of Parquet, that holds the text; each line or row is a document.</param>
    /// <exception cref="InvalidInputException">Missing, unreadable, empty or binary files, no such field, or a file that is both text and validation text.</exception>
    public static TextCorpus Load(IReadOnlyList<string> text, IReadOnlyList<string> validationText, double validationFraction, string field = DataOptions.DefaultField)
    {
        ArgumentNullException.ThrowIfNull(text);
        ArgumentNullException.ThrowIfNull(validationText);
        if (text.Count == 0)
        {
            return validationText.Count == 0
                ? ReferenceDocumentation.Load(validationFraction)
                : throw new InvalidInputException("Validation text was named, but no text to train on; name that too, or neither.");
        }

        IReadOnlyList<CorpusFile> files = CorpusFiles.Find(text);
        string source = string.Join(", ", text.Select(path => $"'{path}'"));
        if (validationText.Count > 0)
        {
            IReadOnlyList<CorpusFile> validationFiles = CorpusFiles.Find(validationText);
            if (files.FirstOrDefault(file => validationFiles.Any(other => other.FullPath == file.FullPath)) is { } both)
            {
                throw new InvalidInputException($"'{both.FullPath}' is both text to train on and validation text; leave it out of one, or name no validation text to hold part of it out.");
            }

            return Corpus(source, files, validationFiles, field);
        }

        HashSet<int> held = HeldOut.Choose([.. files.Select(file => (file.Name, file.Length))], validationFraction);
        return held.Count > 0
            ? Corpus(source, [.. files.Where((_, index) => !held.Contains(index))], [.. files.Where((_, index) => held.Contains(index))], field)
            : HoldOutTheEnd(source, files, validationFraction, field);
    }

    /// <summary>Reads files, folders and patterns whole, one text after another, each but the last ended by a line feed; one file of text is read as it is.</summary>
    /// <param name="text">Files, folders and patterns.</param>
    /// <param name="field">Field of JSON lines, or column of Parquet, that holds the text.</param>
    /// <exception cref="InvalidInputException">Missing, unreadable or binary files, or no such field.</exception>
    public static ReadOnlyMemory<byte> Read(IReadOnlyList<string> text, string field = DataOptions.DefaultField)
    {
        ArgumentNullException.ThrowIfNull(text);
        return Join(CorpusFiles.Find(text), field, endsLast: false).Bytes;
    }

    private static TextCorpus Corpus(string source, IReadOnlyList<CorpusFile> trainingFiles, IReadOnlyList<CorpusFile> validationFiles, string field)
    {
        JoinedText training = Join(trainingFiles, field), validation = Join(validationFiles, field);
        return new TextCorpus(source, training.Bytes, validation.Bytes, trainingFiles.Count, validationFiles.Count)
        {
            TrainingDocuments = training.Documents(),
            ValidationDocuments = validation.Documents(),
        };
    }

    /// <summary>Cuts at the beginning of a line, or of a word where the text has no lines.</summary>
    private static TextCorpus HoldOutTheEnd(string source, IReadOnlyList<CorpusFile> files, double fraction, string field)
    {
        JoinedText text = Join(files, field);
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

    /// <summary>Documents one after another, each ended by a line feed; whether the last is, too, can be chosen.</summary>
    private static JoinedText Join(IReadOnlyList<CorpusFile> files, string field, bool endsLast = true)
    {
        using JoinedTextWriter text = new();
        foreach (CorpusFile file in files)
        {
            if (file is { Format: CorpusFormat.Text, Coding: CorpusCoding.None })
            {
                text.Add(ReadFile(file.FullPath), file.FullPath);
                text.EndDocument();
            }
            else
            {
                ReadEntries(file, field, text);
            }
        }

        return text.Finish(endsLast);
    }

    /// <summary>Every line of JSON is a document. Pieces into which the reader cuts a long text are one.</summary>
    private static void ReadEntries(CorpusFile file, string field, JoinedTextWriter text)
    {
        using var line = new JsonLineField(field);
        foreach (CorpusBatch read in new CorpusReader([file]).Read())
        {
            using CorpusBatch batch = read;
            for (int i = 0; i < batch.Count; i++)
            {
                if (file.Format == CorpusFormat.Text)
                {
                    text.Add(batch[i], file.FullPath);
                    continue;
                }

                text.Add(line.Read(batch[i], file.FullPath, batch.First.Entry + i + 1), file.FullPath);
                text.EndDocument();
            }
        }

        text.EndDocument();
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
            throw new InvalidInputException($"Cannot read the text '{path}': it is no text, byte {zero} is zero; name a UTF-8 text file (UTF-16 must be converted).");
        }

        ReadOnlySpan<byte> byteOrderMark = [0xEF, 0xBB, 0xBF];
        return contents.AsSpan().StartsWith(byteOrderMark) ? contents.AsSpan(byteOrderMark.Length) : contents;
    }
}
