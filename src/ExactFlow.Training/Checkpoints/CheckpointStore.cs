using System.Globalization;
using ExactFlow.Tensors;

namespace ExactFlow.Training.Checkpoints;

/// <summary>
/// The checkpoints of a run: folders <c>step-000123</c>, each complete or not there at all. A checkpoint is written under another name, renamed, and
/// gets its manifest last; a process killed at any moment leaves at most a folder without a manifest, which the next save removes.
/// </summary>
public sealed class CheckpointStore
{
    private const string Prefix = "step-";
    private const string UnfinishedPrefix = ".writing-";

    /// <summary>Works in a folder, which need not exist yet.</summary>
    public CheckpointStore(string folder)
    {
        ArgumentException.ThrowIfNullOrEmpty(folder);
        Folder = Path.GetFullPath(folder);
    }

    /// <summary>The folder that holds the checkpoints.</summary>
    public string Folder { get; }

    /// <summary>The folder of a step's checkpoint, whether it exists or not.</summary>
    public string PathOf(int step) => Path.Combine(Folder, Prefix + step.ToString("D6", CultureInfo.InvariantCulture));

    /// <summary>Steps with a completed checkpoint, newest first. Completed does not mean undamaged: see <see cref="Verify"/>.</summary>
    public IReadOnlyList<int> Steps()
        => !Directory.Exists(Folder) ? [] :
            [.. Directory.GetDirectories(Folder, Prefix + "*")
                .Where(path => File.Exists(Path.Combine(path, CheckpointManifest.FileName)))
                .Select(StepOf).Where(step => step >= 0).OrderDescending()];

    /// <summary>Writes a checkpoint.</summary>
    /// <param name="step">Steps done.</param>
    /// <param name="writeFiles">Writes the checkpoint's files into the folder it is given.</param>
    /// <returns>The checkpoint's folder.</returns>
    /// <exception cref="InvalidInputException">The disk is full or refuses; earlier checkpoints are untouched, and the sentence says which is the newest.</exception>
    public string Save(int step, Action<string> writeFiles)
    {
        ArgumentNullException.ThrowIfNull(writeFiles);
        string final = PathOf(step);
        string unfinished = Path.Combine(Folder, UnfinishedPrefix + Path.GetFileName(final));
        try
        {
            RemoveUnfinished();
            Directory.CreateDirectory(unfinished);
            writeFiles(unfinished);
            string manifest = CheckpointManifest.Describe(unfinished);
            Remove(final);
            Directory.Move(unfinished, final);
            CheckpointManifest.Write(final, manifest);
            return final;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException or InvalidInputException)
        {
            TryRemove(unfinished);
            string reason = exception.Message.TrimEnd('.');
            string intact = Steps() is [int newest, ..] ? $"the checkpoint of step {newest} is intact" : "there is no earlier checkpoint";
            throw new InvalidInputException($"Saving the checkpoint of step {step} failed ({reason}); {intact}: make room and continue with --resume auto.", exception);
        }
    }

    /// <summary>Checks a checkpoint's files against its manifest, every byte.</summary>
    /// <exception cref="InvalidInputException">A file is missing, has another size or another SHA-256; the sentence names it.</exception>
    public static void Verify(string checkpoint)
    {
        if (CheckpointManifest.FindDamage(checkpoint) is { } damage)
        {
            throw new InvalidInputException($"The checkpoint '{checkpoint}' cannot be used: {damage}; choose another one or --resume auto.");
        }
    }

    /// <summary>The newest checkpoint whose files are all as they were written, or null.</summary>
    /// <param name="warn">Is told, in a sentence, about every newer one that had to be passed over.</param>
    public string? FindNewest(Action<string> warn)
    {
        ArgumentNullException.ThrowIfNull(warn);
        foreach (int step in Steps())
        {
            string path = PathOf(step);
            if (CheckpointManifest.FindDamage(path) is not { } damage)
            {
                return path;
            }

            warn($"The checkpoint of step {step} is passed over: {damage}.");
        }

        return null;
    }

    /// <summary>Deletes all but the newest checkpoints and the best one.</summary>
    /// <param name="keepLast">How many of the newest stay, at least 1.</param>
    /// <param name="best">A step that stays whatever its age, or null.</param>
    public void Prune(int keepLast, int? best)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(keepLast, 1);
        foreach (int step in Steps().Skip(keepLast).Where(step => step != best))
        {
            TryRemove(PathOf(step));
        }
    }

    /// <summary>The step in a checkpoint folder's name, or -1.</summary>
    internal static int StepOf(string path)
        => int.TryParse(Path.GetFileName(path).AsSpan(Prefix.Length), NumberStyles.None, CultureInfo.InvariantCulture, out int step) ? step : -1;

    /// <summary>The manifest goes first, so a deletion that is cut short leaves no half checkpoint.</summary>
    private static void Remove(string checkpoint)
    {
        if (Directory.Exists(checkpoint))
        {
            File.Delete(Path.Combine(checkpoint, CheckpointManifest.FileName));
            Directory.Delete(checkpoint, recursive: true);
        }
    }

    private static void TryRemove(string folder)
    {
        try
        {
            Remove(folder);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            // What cannot be deleted now is only in the way: it has no manifest any more, or it is an old and valid checkpoint.
        }
    }

    private void RemoveUnfinished()
    {
        if (!Directory.Exists(Folder))
        {
            return;
        }

        foreach (string folder in Directory.GetDirectories(Folder))
        {
            string name = Path.GetFileName(folder);
            bool isUnfinished = name.StartsWith(UnfinishedPrefix, StringComparison.Ordinal)
                || (name.StartsWith(Prefix, StringComparison.Ordinal) && StepOf(folder) >= 0 && !File.Exists(Path.Combine(folder, CheckpointManifest.FileName)));
            if (isUnfinished)
            {
                Remove(folder);
            }
        }
    }
}
