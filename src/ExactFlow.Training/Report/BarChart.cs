namespace ExactFlow.Training.Report;

/// <summary>A chart of bars in groups, each bar with its spread; drawn by <see cref="SvgFigure"/>.</summary>
public sealed record BarChart
{
    /// <summary>Heading.</summary>
    public required string Title { get; init; }

    /// <summary>What the height means, with its unit.</summary>
    public required string YLabel { get; init; }

    /// <summary>Names of the groups, from left to right, such as tasks.</summary>
    public required IReadOnlyList<string> Groups { get; init; }

    /// <summary>The bars of each group, in the order of the legend, such as rules.</summary>
    public required IReadOnlyList<BarSeries> Series { get; init; }

    /// <summary>Where the axis ends, or null for what the values need.</summary>
    public double? Top { get; init; }
}

/// <summary>The bars of one colour. A value that is not finite leaves its bar out.</summary>
/// <param name="Label">Its name in the legend.</param>
/// <param name="Values">One per group.</param>
/// <param name="Spreads">Half the length of each error bar, such as the standard deviation over seeds, or null.</param>
public sealed record BarSeries(string Label, IReadOnlyList<double> Values, IReadOnlyList<double>? Spreads = null)
{
    /// <summary>Number of its colour in the palette, or null for its place in the chart.</summary>
    public int? Color { get; init; }
}
