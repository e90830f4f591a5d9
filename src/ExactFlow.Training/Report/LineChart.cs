namespace ExactFlow.Training.Report;

/// <summary>A chart of lines; drawn by the report page, and as a standalone figure by <see cref="SvgFigure"/>.</summary>
public sealed record LineChart
{
    /// <summary>Heading.</summary>
    public required string Title { get; init; }

    /// <summary>A sentence or two under the chart on the page; a figure does without it.</summary>
    public string Caption { get; init; } = string.Empty;

    /// <summary>What runs from left to right, with its unit.</summary>
    public required string XLabel { get; init; }

    /// <summary>What runs upwards, with its unit.</summary>
    public required string YLabel { get; init; }

    /// <summary>Whether the x axis is logarithmic; its values must be positive then.</summary>
    public bool LogX { get; init; }

    /// <summary>Whether the y axis is logarithmic; values that are not positive are gaps then.</summary>
    public bool LogY { get; init; }

    /// <summary>The lines, in the order of the legend.</summary>
    public required IReadOnlyList<ChartSeries> Series { get; init; }
}

/// <summary>A line of a chart. Values that are not finite are gaps.</summary>
/// <param name="Label">Its name in the legend.</param>
/// <param name="X">Where its points are, ascending.</param>
/// <param name="Y">Their values, such as means over seeds.</param>
/// <param name="Low">The lower edge of a band around the line, such as the lowest seed, or null.</param>
/// <param name="High">The upper edge of the band, or null.</param>
public sealed record ChartSeries(string Label, IReadOnlyList<double> X, IReadOnlyList<double> Y, IReadOnlyList<double>? Low = null, IReadOnlyList<double>? High = null)
{
    /// <summary>Whether each point is marked, for lines of few points.</summary>
    public bool Marked { get; init; }

    /// <summary>Whether the line is dashed.</summary>
    public bool Dashed { get; init; }

    /// <summary>Number of its colour in the palette, or null for its place in the chart: gives a rule the same colour in all charts.</summary>
    public int? Color { get; init; }
}
