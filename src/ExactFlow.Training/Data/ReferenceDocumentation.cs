using System.Runtime.InteropServices;
using System.Text;
using System.Xml;
using ExactFlow.Tensors;

namespace ExactFlow.Training.Data;

/// <summary>
/// The text that is always at hand: English prose in the XML documentation of the .NET reference packs (<c>packs/*/*/ref/net*/*.xml</c>), which ship with every SDK.
/// </summary>
/// <remarks>
/// Every sentence is kept once: first come the training files, then the validation files, so that no sentence of the validation text was trained on.
/// Whole files are held out, chosen by a hash of their names.
/// </remarks>
public static class ReferenceDocumentation
{
    /// <summary>Finds the files and reads their prose.</summary>
    /// <param name="validationFraction">The part of the prose to hold out, about.</param>
    /// <exception cref="InvalidInputException">No reference packs were found, or a file cannot be read; the message says where was looked.</exception>
    public static TextCorpus Load(double validationFraction) => Load(Roots(), validationFraction);

    /// <summary>Reads the first of the folders that holds reference packs.</summary>
    internal static TextCorpus Load(IEnumerable<string> roots, double validationFraction)
    {
        List<string> looked = [];
        foreach (string root in roots)
        {
            string packs = Path.Combine(root, "packs");
            looked.Add(packs);
            if (Directory.Exists(packs) && FindFiles(packs) is { Count: > 0 } files)
            {
                return Load(packs, files, validationFraction);
            }
        }

        throw new InvalidInputException(
            $"No text was named, and the .NET reference documentation was not found: looked for packs/*/*/ref/net*/*.xml in {string.Join(", ", looked.Select(folder => $"'{folder}'"))}; install the .NET SDK, set DOTNET_ROOT, or name a text file.");
    }

    /// <summary>Reads the prose of documentation files.</summary>
    internal static TextCorpus Load(string source, IReadOnlyList<string> files, double validationFraction)
    {
        Document[] documents = ReadAll(files);

        // The first pass only measures what is left of each file when every sentence counts where it stands first.
        HashSet<string> seen = new(StringComparer.Ordinal);
        HashSet<int> held = HeldOut.Choose([.. documents.Select(document => (document.Name, Write(Stream.Null, document, seen)))], validationFraction);
        seen.Clear();
        JoinedText training = Write(documents.Where((_, index) => !held.Contains(index)), seen);
        JoinedText validation = Write(documents.Where((_, index) => held.Contains(index)), seen);
        return new TextCorpus($"English prose of the .NET reference documentation in '{source}'", training.Bytes, validation.Bytes, documents.Length - held.Count, held.Count)
        {
            TrainingDocuments = training.Documents(),
            ValidationDocuments = validation.Documents(),
        };
    }

    /// <summary>Folders that may hold <c>packs</c>: where DOTNET_ROOT says, above the running runtime, and beside the <c>dotnet</c> that the shell would start.</summary>
    private static IEnumerable<string> Roots()
    {
        List<string?> roots = [Environment.GetEnvironmentVariable("DOTNET_ROOT")];
        for (DirectoryInfo? folder = new(RuntimeEnvironment.GetRuntimeDirectory()); folder is not null; folder = folder.Parent)
        {
            roots.Add(Directory.Exists(Path.Combine(folder.FullName, "packs")) ? folder.FullName : null);
        }

        string program = OperatingSystem.IsWindows() ? "dotnet.exe" : "dotnet";
        foreach (string folder in (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries))
        {
            FileInfo file = new(Path.Combine(folder, program));
            roots.Add(file.Exists ? Path.GetDirectoryName(file.ResolveLinkTarget(returnFinalTarget: true)?.FullName ?? file.FullName) : null);
        }

        return roots.Where(root => !string.IsNullOrEmpty(root)).Select(root => Path.GetFullPath(root!)).Distinct(StringComparer.Ordinal);
    }

    /// <summary>One file of each name, the largest (packs repeat each other, and several versions may be installed), in ordinal order of the names.</summary>
    private static List<string> FindFiles(string packs)
    {
        try
        {
            return [.. Directory.GetDirectories(packs)
                .SelectMany(Directory.GetDirectories)
                .Select(version => Path.Combine(version, "ref"))
                .Where(Directory.Exists)
                .SelectMany(references => Directory.GetDirectories(references, "net*"))
                .SelectMany(framework => new DirectoryInfo(framework).GetFiles("*.xml"))
                .GroupBy(file => file.Name, StringComparer.Ordinal)
                .Select(copies => copies.OrderByDescending(file => file.Length).ThenBy(file => file.FullName, StringComparer.Ordinal).First())
                .OrderBy(file => file.Name, StringComparer.Ordinal)
                .Select(file => file.FullName)];
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new InvalidInputException($"Cannot list the .NET reference packs in '{packs}': {exception.Message.TrimEnd('.')}; check the permissions, or name a text file.", exception);
        }
    }

    private static Document[] ReadAll(IReadOnlyList<string> files)
    {
        var documents = new Document[files.Count];
        try
        {
            Parallel.For(0, files.Count, i => documents[i] = Read(files[i]));
        }
        catch (AggregateException exception) when (exception.InnerExceptions[0] is InvalidInputException first)
        {
            throw new InvalidInputException(first.Message, first);
        }

        return documents;
    }

    private static Document Read(string path)
    {
        try
        {
            using FileStream stream = File.OpenRead(path);
            return new Document(Path.GetFileName(path), [.. DocumentationProse.Read(stream)]);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException or XmlException)
        {
            throw new InvalidInputException($"Cannot read the documentation file '{path}': {exception.Message.TrimEnd('.')}; repair the .NET SDK, or name a text file.", exception);
        }
    }

    private static JoinedText Write(IEnumerable<Document> documents, HashSet<string> seen)
    {
        using MemoryStream text = new();
        List<long> ends = [];
        foreach (Document document in documents)
        {
            Write(text, document, seen);
            ends.Add(text.Length);
        }

        return new JoinedText(text, ends);
    }

    /// <summary>Writes the sentences of a document that were not seen before, a line per paragraph; returns their bytes.</summary>
    private static long Write(Stream destination, Document document, HashSet<string> seen)
    {
        long written = 0;
        StringBuilder line = new();
        foreach (string paragraph in document.Paragraphs)
        {
            line.Clear();
            foreach (string sentence in DocumentationProse.Sentences(paragraph))
            {
                if (seen.Add(sentence))
                {
                    line.Append(line.Length > 0 ? " " : "").Append(sentence);
                }
            }

            if (line.Length > 0)
            {
                byte[] bytes = Encoding.UTF8.GetBytes(line.Append('\n').ToString());
                destination.Write(bytes);
                written += bytes.Length;
            }
        }

        return written;
    }

    private sealed record Document(string Name, List<string> Paragraphs);
}
