using System.Globalization;
using System.Net;
using System.Text;

namespace ExactFlow.Training.Report;

/// <summary>Writes an SVG picture: background, frame with ticks, legend, and what a chart draws.</summary>
internal sealed class SvgCanvas
{
    private const string Ink = "#1d1f23", Quiet = "#676b73", Grid = "#ebe8e1", Paper = "#fdfcfa", Font = "ui-sans-serif, system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif";
    private const double LegendLine = 16, LegendGap = 18, CharacterWidth = 6.2;
    private readonly StringBuilder text = new();
    private readonly double width;
    private readonly double height;

    /// <summary>Begins a picture with its title and legend, and lays out the plot under them.</summary>
    public SvgCanvas(double width, double height, string title, string yLabel, IReadOnlyList<(string Label, int Color, bool Dashed)> legend)
    {
        (this.width, this.height) = (width, height);
        Left = 62;
        Right = width - 16;
        Bottom = height - 46;
        Raw($"<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {Number(width)} {Number(height)}\" width=\"{Number(width)}\" height=\"{Number(height)}\" role=\"img\" font-family=\"{Font}\" font-size=\"12\">");
        Raw($"<title>{WebUtility.HtmlEncode(title)}</title><rect width=\"{Number(width)}\" height=\"{Number(height)}\" fill=\"{Paper}\"/>");
        Text(Left, 20, title, Ink, "start", "font-size=\"14\" font-weight=\"600\"");
        Top = Legend(legend) + 12;
        Raw($"<text transform=\"translate(16 {Number((Top + Bottom) / 2)}) rotate(-90)\" text-anchor=\"middle\" fill=\"{Quiet}\">{WebUtility.HtmlEncode(yLabel)}</text>");
    }

    /// <summary>Edges of the plot.</summary>
    public double Left { get; }

    /// <inheritdoc cref="Left"/>
    public double Right { get; }

    /// <inheritdoc cref="Left"/>
    public double Top { get; }

    /// <inheritdoc cref="Left"/>
    public double Bottom { get; }

    /// <summary>The colour of a number.</summary>
    public static string Color(int index) => ReportPalette.Light[index % ReportPalette.Count];

    /// <summary>A number as SVG takes it.</summary>
    public static string Number(double value) => value.ToString("0.##", CultureInfo.InvariantCulture);

    /// <summary>Lines and numbers of the y axis.</summary>
    public void YAxis(in AxisScale axis)
    {
        foreach ((double value, string label) in axis.Ticks())
        {
            double y = axis[value];
            Line(Left, y, Right, y, Grid, 1);
            Text(Left - 6, y + 4, label, Quiet, "end");
        }
    }

    /// <summary>Lines and numbers of the x axis, and what it means.</summary>
    public void XAxis(in AxisScale axis, string label)
    {
        foreach ((double value, string tick) in axis.Ticks())
        {
            double x = axis[value];
            Line(x, Top, x, Bottom, Grid, 1);
            Text(x, Bottom + 16, tick, Quiet, "middle");
        }

        Text((Left + Right) / 2, height - 10, label, Quiet, "middle");
    }

    /// <summary>A straight line.</summary>
    public void Line(double x1, double y1, double x2, double y2, string stroke, double strokeWidth)
        => Raw($"<line x1=\"{Number(x1)}\" y1=\"{Number(y1)}\" x2=\"{Number(x2)}\" y2=\"{Number(y2)}\" stroke=\"{stroke}\" stroke-width=\"{Number(strokeWidth)}\"/>");

    /// <summary>A word or sentence.</summary>
    public void Text(double x, double y, string words, string fill, string anchor, string more = "")
        => Raw($"<text x=\"{Number(x)}\" y=\"{Number(y)}\" text-anchor=\"{anchor}\" fill=\"{fill}\" {more}>{WebUtility.HtmlEncode(words)}</text>");

    /// <summary>The name of a group of bars.</summary>
    public void GroupLabel(double x, string words) => Text(x, Bottom + 16, words, Quiet, "middle");

    /// <summary>Anything else.</summary>
    public void Raw(string element) => text.Append(element).Append('\n');

    /// <summary>The whole picture.</summary>
    public string Finish() => text.Append("</svg>\n").ToString();

    /// <summary>Writes the legend, in as many lines as it needs.</summary>
    /// <returns>Where it ends.</returns>
    private double Legend(IReadOnlyList<(string Label, int Color, bool Dashed)> entries)
    {
        double x = Left, y = 40;
        foreach ((string label, int color, bool dashed) in entries)
        {
            double needed = LegendGap + 6 + (label.Length * CharacterWidth);
            if (x > Left && x + needed > Right)
            {
                (x, y) = (Left, y + LegendLine);
            }

            Raw($"<line x1=\"{Number(x)}\" y1=\"{Number(y - 4)}\" x2=\"{Number(x + LegendGap)}\" y2=\"{Number(y - 4)}\" stroke=\"{Color(color)}\" stroke-width=\"3\"{(dashed ? " stroke-dasharray=\"5 3\"" : "")}/>");
            Text(x + LegendGap + 5, y, label, Ink, "start");
            x += needed + 14;
        }

        return y;
    }
}
