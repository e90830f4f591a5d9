using System.Globalization;
using ExactFlow.Training.Experiments;
using Spectre.Console;

namespace ExactFlow.Cli.Display;

/// <summary>Shows how a study goes: a live table on a terminal, lines otherwise.</summary>
internal abstract class StudyDisplay : IStudyObserver, IDisposable
{
    /// <summary>The display for where the output goes.</summary>
    /// <param name="wantsJson">Standard output belongs to a JSON document: lines go to standard error.</param>
    public static StudyDisplay Create(bool wantsJson) =>
        wantsJson ? new StudyLines(Console.Error)
        : Console.IsOutputRedirected ? new StudyLines(Console.Out)
        : new StudyTable(AnsiConsole.Console);

    /// <summary>Tells what happens outside of the runs.</summary>
    public abstract void Say(string sentence);

    /// <inheritdoc/>
    public void OnBegin(int runs, int finished, int workers)
        => Say($"{runs} run{(runs == 1 ? "" : "s")}{(finished > 0 ? $", {finished} of them finished before" : "")}{(workers > 1 ? $", {workers} at once" : "")}");

    /// <inheritdoc/>
    public abstract void OnProgress(StudyProgress progress);

    /// <inheritdoc/>
    public abstract void OnFinished(string run, double seconds, string summary, StudyProgress progress);

    /// <inheritdoc/>
    public abstract void Dispose();

    /// <summary>The line of a finished run.</summary>
    protected static string Format(string run, double seconds, string summary)
        => string.Create(CultureInfo.InvariantCulture, $"{run} | {summary} | {seconds:0.0} s");
}
