using System.Diagnostics;
using System.Globalization;
using ExactFlow.Training.Experiments;

namespace ExactFlow.Cli.Display;

/// <summary>A study as plain lines, for logs and pipes: every finished run, and now and then where the runs under way are.</summary>
/// <param name="output">Where lines go.</param>
internal sealed class StudyLines(TextWriter output) : StudyDisplay
{
    private const double SecondsBetweenLines = 10;
    private readonly Dictionary<int, long> lastLine = [];

    /// <inheritdoc/>
    public override void Say(string sentence) => output.WriteLine(sentence);

    /// <inheritdoc/>
    public override void OnProgress(StudyProgress progress)
    {
        if (!lastLine.TryGetValue(progress.Worker, out long last))
        {
            lastLine[progress.Worker] = Stopwatch.GetTimestamp();
        }
        else if (Stopwatch.GetElapsedTime(last).TotalSeconds >= SecondsBetweenLines)
        {
            lastLine[progress.Worker] = Stopwatch.GetTimestamp();
            output.WriteLine(string.Create(
                CultureInfo.InvariantCulture,
                $"{progress.Run} | {progress.RunFraction * 100:0} %{(progress.Status.Length > 0 ? " | " + progress.Status : "")} | study {progress.Fraction * 100:0.0} %, left {Units.Duration(progress.SecondsLeft)}"));
        }
    }

    /// <inheritdoc/>
    public override void OnFinished(string run, double seconds, string summary, StudyProgress progress)
        => output.WriteLine($"{Format(run, seconds, summary)} | {progress.Finished} of {progress.Runs}, left {Units.Duration(progress.SecondsLeft)}");

    /// <inheritdoc/>
    public override void Dispose() => output.Flush();
}
