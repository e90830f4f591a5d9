namespace ExactFlow.Training.Report;

/// <summary>What a report shows; <see cref="HtmlReport"/> turns it into a page.</summary>
public sealed record ReportPage
{
    /// <summary>Heading.</summary>
    public required string Title { get; init; }

    /// <summary>The line under the heading.</summary>
    public required string Subtitle { get; init; }

    /// <summary>The command that made the run.</summary>
    public required string Command { get; init; }

    /// <summary>Column heads of the results; none leaves the table out.</summary>
    public IReadOnlyList<string> Columns { get; init; } = [];

    /// <summary>Rows of the results.</summary>
    public IReadOnlyList<ReportRow> Rows { get; init; } = [];

    /// <summary>Sentences under the table.</summary>
    public IReadOnlyList<string> Notes { get; init; } = [];

    /// <summary>More tables, each under a heading of its own.</summary>
    public IReadOnlyList<ReportTable> Tables { get; init; } = [];

    /// <summary>Charts, each under a heading of its own.</summary>
    public IReadOnlyList<LineChart> Charts { get; init; } = [];

    /// <summary>Pictures, each under a heading of its own.</summary>
    public IReadOnlyList<ReportFigure> Figures { get; init; } = [];

    /// <summary>Curves and samples of language models, one entry per rule; differences are drawn against the first.</summary>
    public IReadOnlyList<ReportRun> Runs { get; init; } = [];

    /// <summary>Names and values of what else should be known: machine, text, tokenizer.</summary>
    public IReadOnlyList<KeyValuePair<string, string>> Facts { get; init; } = [];

    /// <summary>All settings as JSON text, or null.</summary>
    public string? Settings { get; init; }
}

/// <summary>A table under a heading.</summary>
/// <param name="Title">The heading.</param>
/// <param name="Caption">A sentence or two under the table; may be empty.</param>
/// <param name="Columns">Column heads.</param>
/// <param name="Rows">Rows of as many cells.</param>
public sealed record ReportTable(string Title, string Caption, IReadOnlyList<string> Columns, IReadOnlyList<ReportRow> Rows);

/// <summary>A picture under a heading.</summary>
/// <param name="Title">The heading.</param>
/// <param name="Caption">A sentence or two under it; may be empty.</param>
/// <param name="Svg">The picture, as <see cref="SvgFigure"/> renders it.</param>
public sealed record ReportFigure(string Title, string Caption, string Svg);

/// <summary>A row of the results.</summary>
/// <param name="Run">Index of the run whose colour it bears, or -1 for one that is no run (the Brotli line).</param>
/// <param name="Cells">One per column.</param>
public sealed record ReportRow(int Run, IReadOnlyList<ReportCell> Cells);

/// <summary>A cell of the results.</summary>
/// <param name="Text">The value.</param>
/// <param name="Spread">The spread over seeds, or null.</param>
public sealed record ReportCell(string Text, string? Spread = null);

/// <summary>The curves of one rule.</summary>
/// <param name="Label">The rule's name.</param>
/// <param name="Seeds">Its curves, one per seed.</param>
/// <param name="Samples">What it wrote, oldest first.</param>
public sealed record ReportRun(string Label, IReadOnlyList<ReportCurve> Seeds, IReadOnlyList<ReportSample> Samples);

/// <summary>The curves of one seed. Values that are not finite are drawn as gaps.</summary>
public sealed class ReportCurve
{
    /// <summary>Steps of the training loss.</summary>
    public List<int> Step { get; } = [];

    /// <summary>Training loss, nats per token.</summary>
    public List<double?> Loss { get; } = [];

    /// <summary>Global gradient norm before clipping.</summary>
    public List<double?> GradNorm { get; } = [];

    /// <summary>Steps of the validations.</summary>
    public List<int> ValidationStep { get; } = [];

    /// <summary>Validation loss, nats per token.</summary>
    public List<double?> ValidationLoss { get; } = [];
}

/// <summary>A text a model wrote.</summary>
/// <param name="Step">After which step.</param>
/// <param name="Prompt">What it was given.</param>
/// <param name="Text">What it wrote.</param>
public sealed record ReportSample(int Step, string Prompt, string Text);
