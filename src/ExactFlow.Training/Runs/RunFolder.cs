using ExactFlow.Tensors;
using ExactFlow.Tensors.Files;
using ExactFlow.Training.Checkpoints;

namespace ExactFlow.Training.Runs;

/// <summary>
/// The folder of a run: <c>recipe.json</c>, <c>metrics.jsonl</c> (what is the same every time the run is made), <c>timings.jsonl</c> (what the machine
/// took for it), TensorBoard events, <c>checkpoints/</c>. One process at a time: the folder is locked while this object lives.
/// </summary>
public sealed class RunFolder : IDisposable
{
    private const string MetricsFile = "metrics.jsonl", CheckpointFolder = "checkpoints";

    private readonly FileStream ownership;

    /// <summary>Makes the folder if need be and takes it.</summary>
    /// <exception cref="InvalidInputException">It cannot be made or written, or another process holds it.</exception>
    public RunFolder(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        FullPath = Path.GetFullPath(path);
        try
        {
            Directory.CreateDirectory(FullPath);
            ownership = new FileStream(this[".lock"], FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new InvalidInputException(
                $"The run folder '{FullPath}' cannot be used: {exception.Message.TrimEnd('.')}; choose another place, or wait if another process is training in it.", exception);
        }

        Checkpoints = new CheckpointStore(this[CheckpointFolder]);
        try
        {
            Metrics = new RunLog(this[MetricsFile]);
            Timings = new RunLog(this["timings.jsonl"]);
        }
        catch
        {
            Metrics?.Dispose();
            ownership.Dispose();
            throw;
        }
    }

    /// <summary>The folder.</summary>
    public string FullPath { get; }

    /// <summary>Its checkpoints.</summary>
    public CheckpointStore Checkpoints { get; }

    /// <summary>Losses, norms, rates, validations and samples: a function of recipe and text, bit for bit.</summary>
    public RunLog Metrics { get; }

    /// <summary>Milliseconds and rates.</summary>
    public RunLog Timings { get; }

    /// <summary>The path of a file in the folder.</summary>
    public string this[string name] => Path.Combine(FullPath, name);

    /// <summary>Refuses a folder in which a run was begun: a look without taking it, for before long work.</summary>
    /// <exception cref="InvalidInputException">A run was begun there.</exception>
    public static void RequireUnused(string path)
    {
        string full = Path.GetFullPath(path);
        if (new FileInfo(Path.Combine(full, MetricsFile)) is { Exists: true, Length: > 0 } || new CheckpointStore(Path.Combine(full, CheckpointFolder)).Steps().Count > 0)
        {
            throw new InvalidInputException($"The run '{full}' exists already: continue it with --resume auto, or begin another with --name.");
        }
    }

    /// <summary>Writes a text file, whole or not at all.</summary>
    public void Write(string name, string text) => AtomicFile.WriteAllText(this[name], text);

    /// <summary>Where the logs end now, safely on disk, for a checkpoint.</summary>
    public IReadOnlyDictionary<string, long> FlushLogs()
    {
        Metrics.FlushToDisk();
        Timings.FlushToDisk();
        return new Dictionary<string, long>(StringComparer.Ordinal) { ["metrics"] = Metrics.Length, ["timings"] = Timings.Length };
    }

    /// <summary>Cuts the logs back to where a checkpoint found them.</summary>
    /// <param name="lengths">What <see cref="FlushLogs"/> returned; null empties the logs.</param>
    /// <exception cref="InvalidInputException">A log is shorter than it was.</exception>
    public void RewindLogs(IReadOnlyDictionary<string, long>? lengths)
    {
        Metrics.Rewind(lengths?.GetValueOrDefault("metrics") ?? 0);
        Timings.Rewind(lengths?.GetValueOrDefault("timings") ?? 0);
    }

    /// <summary>Closes the logs and lets go of the folder.</summary>
    public void Dispose()
    {
        Metrics.Dispose();
        Timings.Dispose();
        ownership.Dispose();
    }
}
