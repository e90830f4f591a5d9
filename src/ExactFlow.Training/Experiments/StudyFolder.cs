using System.Text;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Files;

namespace ExactFlow.Training.Experiments;

/// <summary>
/// A study on disk: many runs of one experiment under settings that they share. Finished runs are added to <c>results.jsonl</c>, a line each, which only grows;
/// a study that was stopped or killed goes on where it was, and can be given more runs later. Runs are independent, so it does not matter in which order or
/// on how many devices they were done. One process writes a folder at a time; others may read it.
/// </summary>
/// <typeparam name="TResult">What a run measures; properties become fields in snake_case.</typeparam>
public sealed class StudyFolder<TResult> : IDisposable
    where TResult : class
{
    private readonly Lock writing = new();
    private readonly List<StudyRecord<TResult>> records;
    private readonly HashSet<string> finished;
    private readonly FileStream ownership;
    private readonly FileStream results;

    private StudyFolder(string path, FileStream ownership)
    {
        Path = path;
        this.ownership = ownership;
        (records, long whole) = StudyFiles.Read<TResult>(path);
        finished = records.Select(record => record.Run).ToHashSet(StringComparer.Ordinal);
        results = new FileStream(System.IO.Path.Combine(path, StudyFiles.Results), FileMode.OpenOrCreate, FileAccess.Write, FileShare.Read, bufferSize: 0);
        results.SetLength(whole);
        results.Seek(whole, SeekOrigin.Begin);
    }

    /// <summary>The folder.</summary>
    public string Path { get; }

    /// <summary>Finished runs, in the order in which they finished.</summary>
    public IReadOnlyList<StudyRecord<TResult>> Records
    {
        get
        {
            lock (writing)
            {
                return [.. records];
            }
        }
    }

    /// <summary>Begins a study, or goes on with one. A half-written last line, which a killed process may leave, is cut off.</summary>
    /// <param name="path">The folder; made if need be.</param>
    /// <param name="study">The experiment's name, such as <c>smnist</c>.</param>
    /// <param name="settings">A record of what all runs share; a folder with other settings is refused.</param>
    /// <exception cref="InvalidInputException">The folder is in use, cannot be written, or holds something else; nothing was changed.</exception>
    public static StudyFolder<TResult> Open(string path, string study, object settings)
    {
        path = System.IO.Path.GetFullPath(path);
        if (StudyFiles.TryReadSettings(path, study) is { } found)
        {
            if (StudyFiles.Difference(found, settings) is { } difference)
            {
                throw new InvalidInputException($"The folder '{path}' holds this study with other settings ({difference}): give the same settings, or choose another folder.");
            }
        }
        else if (File.Exists(path) || (Directory.Exists(path) && Directory.EnumerateFileSystemEntries(path).Any(entry => !IsBeginning(entry))))
        {
            throw new InvalidInputException($"The study cannot be written to '{path}', which holds something else: choose a new or an empty folder.");
        }

        FileStream? ownership = null;
        try
        {
            Directory.CreateDirectory(path);
            ownership = new FileStream(System.IO.Path.Combine(path, StudyFiles.Lock), FileMode.OpenOrCreate, FileAccess.Write, FileShare.None, 1, FileOptions.DeleteOnClose);
            AtomicFile.WriteAllText(System.IO.Path.Combine(path, StudyFiles.Fingerprint), StudyFiles.Describe(study, settings));
            return new StudyFolder<TResult>(path, ownership);
        }
        catch (Exception exception)
        {
            ownership?.Dispose();
            if (exception is IOException or UnauthorizedAccessException)
            {
                throw new InvalidInputException($"The study cannot be written to the folder '{path}': {exception.Message.TrimEnd('.')}; check its permissions and whether another process is running it.", exception);
            }

            throw;
        }
    }

    /// <summary>The finished runs of a study, for reports; the folder may be in use.</summary>
    /// <param name="path">The folder.</param>
    /// <param name="study">The experiment's name.</param>
    /// <exception cref="InvalidInputException">There is no such study, or a line is no result of it.</exception>
    public static IReadOnlyList<StudyRecord<TResult>> Read(string path, string study)
    {
        if (StudyFiles.TryReadSettings(path, study) is null)
        {
            throw new InvalidInputException($"There is no study in '{path}', where a file {StudyFiles.Fingerprint} is expected: name the folder that 'exactflow {study} run' wrote.");
        }

        return StudyFiles.Read<TResult>(path).Records;
    }

    /// <summary>Whether a run is finished.</summary>
    public bool Has(string run)
    {
        lock (writing)
        {
            return finished.Contains(run);
        }
    }

    /// <summary>Adds a finished run and forces it to the disk.</summary>
    /// <exception cref="InvalidInputException">The disk is full or refuses; the runs before it are intact.</exception>
    public void Add(StudyRecord<TResult> record)
    {
        ArgumentNullException.ThrowIfNull(record);
        lock (writing)
        {
            if (!finished.Add(record.Run))
            {
                throw new ArgumentException($"The run '{record.Run}' is finished already.", nameof(record));
            }

            long start = results.Position;
            try
            {
                results.Write(Encoding.UTF8.GetBytes(StudyFiles.Serialize(record) + "\n"));
                results.Flush(flushToDisk: true);
            }
            catch (IOException exception)
            {
                results.SetLength(start);
                results.Seek(start, SeekOrigin.Begin);
                throw new InvalidInputException($"Writing to '{results.Name}' failed ({exception.Message.TrimEnd('.')}): make room and give the same command again; runs that finished before are intact.", exception);
            }

            records.Add(record);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        results.Dispose();
        ownership.Dispose();
    }

    private static bool IsBeginning(string path) => System.IO.Path.GetFileName(path) is StudyFiles.Lock or StudyFiles.Fingerprint + ".tmp";
}
