using System.Globalization;
using ExactFlow.Training;
using Spectre.Console;
using Spectre.Console.Rendering;
using ValidationResult = ExactFlow.Training.ValidationResult;

namespace ExactFlow.Cli.Display;

/// <summary>Training on a terminal: one row a run, redrawn in place, and under the table what each run wrote last.</summary>
internal sealed class TrainingTable : TrainingDisplay
{
    private readonly List<Row> rows = [];
    private readonly List<string> said = [];
    private readonly Lock drawing = new();
    private readonly LiveDrawing live;

    /// <summary>Begins to draw.</summary>
    /// <param name="console">The terminal.</param>
    public TrainingTable(IAnsiConsole console) => live = new LiveDrawing(console, Render, "training display");

    /// <inheritdoc/>
    public override ITrainingObserver Observe(string run)
    {
        lock (drawing)
        {
            var row = new Row(this, run);
            rows.Add(row);
            return row;
        }
    }

    /// <inheritdoc/>
    public override void Say(string sentence)
    {
        lock (drawing)
        {
            said.Add(sentence);
        }
    }

    /// <inheritdoc/>
    public override void Dispose() => live.Dispose();

    private IRenderable Render()
    {
        lock (drawing)
        {
            // A live display cannot be empty: the first line stands until something is said.
            IEnumerable<string> sentences = said.Count == 0 ? [" "] : said;
            var parts = new List<IRenderable>(sentences.Select(sentence => new Text(sentence, new Style(Color.Grey))));
            if (rows.Count > 0)
            {
                Table table = new Table().Border(TableBorder.Simple).AddColumns("run", "%", "loss", "validation", "lr", "ms", "tok/s", "GFLOP/s", "of matmul", "left");
                foreach (TableColumn column in table.Columns.Skip(1))
                {
                    column.RightAligned();
                }

                foreach (Row row in rows)
                {
                    table.AddRow(row.Cells());
                }

                parts.Add(table);
            }

            parts.AddRange(rows.Where(row => row.Sample is not null).Select(row => new Markup($"[bold]{Markup.Escape(row.Name)}[/] {Markup.Escape(row.Sample!)}")));
            return new Spectre.Console.Rows(parts);
        }
    }

    private sealed class Row(TrainingTable owner, string name) : ITrainingObserver
    {
        private StepRecord? last;
        private ValidationResult? validation;

        public string Name => name;

        public string? Sample { get; private set; }

        public IRenderable[] Cells()
        {
            if (last is not { } step)
            {
                return [new Text(name)];
            }

            string[] cells =
            [
                name,
                (step.Fraction * 100).ToString("0", CultureInfo.InvariantCulture),
                step.Loss.ToString("0.000", CultureInfo.InvariantCulture),
                validation is { } result ? result.Loss.ToString("0.000", CultureInfo.InvariantCulture) : "",
                step.LearningRate.ToString("0.0e+0", CultureInfo.InvariantCulture),
                step.Milliseconds.ToString("0", CultureInfo.InvariantCulture),
                step.TokensPerSecond.ToString("#,0", CultureInfo.InvariantCulture),
                (step.FlopsPerSecond / 1e9).ToString("0.0", CultureInfo.InvariantCulture),
                Units.Percent(step.MachineShare),
                Units.Duration(step.SecondsLeft),
            ];
            return [.. cells.Select(cell => new Text(cell))];
        }

        public void OnStep(in StepRecord step)
        {
            lock (owner.drawing)
            {
                last = step;
            }
        }

        public void OnValidation(int step, ValidationResult result)
        {
            lock (owner.drawing)
            {
                validation = result;
            }
        }

        public void OnSample(int step, SampleText sample)
        {
            lock (owner.drawing)
            {
                Sample = (sample.Prompt + sample.Text).ReplaceLineEndings(" ");
            }
        }

        public void OnCheckpoint(int step, string folder)
        {
        }

        public void OnWarning(string sentence) => owner.Say($"{name}: {sentence}");
    }
}
