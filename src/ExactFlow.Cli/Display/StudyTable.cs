using System.Globalization;
using ExactFlow.Training.Experiments;
using Spectre.Console;
using Spectre.Console.Rendering;

namespace ExactFlow.Cli.Display;

/// <summary>A study on a terminal, redrawn in place: the runs under way, a bar for the whole with the time left, and the runs that finished last.</summary>
internal sealed class StudyTable : StudyDisplay
{
    private const int ShownFinished = 8, BarWidth = 40;
    private readonly Lock drawing = new();
    private readonly List<string> said = [];
    private readonly Queue<string> finished = new();
    private readonly SortedDictionary<int, StudyProgress> underWay = [];
    private readonly LiveDrawing live;
    private StudyProgress? newest;

    /// <summary>Begins to draw.</summary>
    /// <param name="console">The terminal.</param>
    public StudyTable(IAnsiConsole console) => live = new LiveDrawing(console, Render, "study display");

    /// <inheritdoc/>
    public override void Say(string sentence)
    {
        lock (drawing)
        {
            said.Add(sentence);
        }
    }

    /// <inheritdoc/>
    public override void OnProgress(StudyProgress progress)
    {
        lock (drawing)
        {
            underWay[progress.Worker] = progress;
            newest = progress;
        }
    }

    /// <inheritdoc/>
    public override void OnFinished(string run, double seconds, string summary, StudyProgress progress)
    {
        lock (drawing)
        {
            underWay.Remove(progress.Worker);
            newest = progress;
            finished.Enqueue(Format(run, seconds, summary));
            if (finished.Count > ShownFinished)
            {
                finished.Dequeue();
            }
        }
    }

    /// <inheritdoc/>
    public override void Dispose() => live.Dispose();

    private Spectre.Console.Rows Render()
    {
        lock (drawing)
        {
            var grey = new Style(Color.Grey);
            // A live display cannot be empty: the first line stands until something is said.
            List<IRenderable> parts = [.. (said.Count == 0 ? [" "] : said).Select(sentence => new Text(sentence, grey))];
            parts.AddRange(finished.Select(line => new Text(line)));
            if (underWay.Count > 0)
            {
                Table table = new Table().Border(TableBorder.Simple).AddColumns("run", "%", "");
                table.Columns[1].RightAligned();
                foreach (StudyProgress run in underWay.Values)
                {
                    table.AddRow(new Text(run.Run), new Text((run.RunFraction * 100).ToString("0", CultureInfo.InvariantCulture)), new Text(run.Status));
                }

                parts.Add(table);
            }

            if (newest is { } study)
            {
                int full = (int)(study.Fraction * BarWidth);
                parts.Add(new Text(string.Create(
                    CultureInfo.InvariantCulture,
                    $"{new string('━', full)}{new string('·', BarWidth - full)} {study.Finished} of {study.Runs} runs, {study.Fraction * 100:0.0} %, left {Units.Duration(study.SecondsLeft)}")));
            }

            return new Spectre.Console.Rows(parts);
        }
    }
}
