using System.Text;
using ExactFlow.Tensors.Files;

namespace ExactFlow.Training.Report;

/// <summary>Charts as SVG pictures that need nothing else, for documents.</summary>
public static class SvgFigure
{
    private const double Width = 640, Height = 400;

    /// <summary>Writes a chart of lines to a file, whole or not at all.</summary>
    public static void Write(string path, LineChart chart) => AtomicFile.WriteAllText(path, Render(chart));

    /// <summary>Writes a chart of bars to a file, whole or not at all.</summary>
    public static void Write(string path, BarChart chart) => AtomicFile.WriteAllText(path, Render(chart));

    /// <summary>Lines with their bands.</summary>
    public static string Render(LineChart chart)
    {
        ArgumentNullException.ThrowIfNull(chart);
        int color(int index) => chart.Series[index].Color ?? index;
        var canvas = new SvgCanvas(Width, Height, chart.Title, chart.YLabel, [.. chart.Series.Select((series, i) => (series.Label, color(i), series.Dashed))]);
        var x = AxisScale.Of(chart.Series.SelectMany(series => series.X), chart.LogX, tight: true, canvas.Left, canvas.Right);
        var y = AxisScale.Of(chart.Series.SelectMany(series => series.Y.Concat(series.Low ?? []).Concat(series.High ?? [])), chart.LogY, tight: false, canvas.Bottom, canvas.Top);
        canvas.YAxis(y);
        canvas.XAxis(x, chart.XLabel);
        for (int i = 0; i < chart.Series.Count; i++)
        {
            if (chart.Series[i] is { Low: not null, High: not null } banded)
            {
                Band(canvas, banded, x, y, SvgCanvas.Color(color(i)));
            }
        }

        for (int i = 0; i < chart.Series.Count; i++)
        {
            Curve(canvas, chart.Series[i], x, y, SvgCanvas.Color(color(i)));
        }

        return canvas.Finish();
    }

    /// <summary>Bars from 0 with their error bars.</summary>
    public static string Render(BarChart chart)
    {
        ArgumentNullException.ThrowIfNull(chart);
        int color(int index) => chart.Series[index].Color ?? index;
        double width = Math.Max(Width, 90 + (chart.Groups.Count * ((chart.Series.Count * 14) + 24)));
        var canvas = new SvgCanvas(width, Height, chart.Title, chart.YLabel, [.. chart.Series.Select((series, i) => (series.Label, color(i), ReportPalette.IsRepeated(color(i))))]);
        var y = AxisScale.Of(
            chart.Series.SelectMany(series => series.Values.Select((value, group) => value + Spread(series, group))).Append(0).Append(chart.Top ?? 0), isLog: false, tight: false, canvas.Bottom, canvas.Top);
        canvas.YAxis(y);
        double groupWidth = (canvas.Right - canvas.Left) / Math.Max(1, chart.Groups.Count), barWidth = groupWidth * 0.8 / Math.Max(1, chart.Series.Count);
        for (int group = 0; group < chart.Groups.Count; group++)
        {
            double left = canvas.Left + ((group + 0.1) * groupWidth);
            canvas.GroupLabel(canvas.Left + ((group + 0.5) * groupWidth), chart.Groups[group]);
            for (int i = 0; i < chart.Series.Count; i++)
            {
                Bar(canvas, chart.Series[i], group, left + (i * barWidth), barWidth, y, color(i));
            }
        }

        return canvas.Finish();
    }

    private static void Bar(SvgCanvas canvas, BarSeries series, int group, double left, double width, in AxisScale y, int color)
    {
        double value = series.Values[group], spread = Spread(series, group);
        if (!double.IsFinite(value))
        {
            return;
        }

        double top = Math.Min(y[value], y[0]), bottom = Math.Max(y[value], y[0]), middle = left + (width / 2);
        canvas.Raw($"<rect x=\"{SvgCanvas.Number(left + 0.5)}\" y=\"{SvgCanvas.Number(top)}\" width=\"{SvgCanvas.Number(width - 1)}\" height=\"{SvgCanvas.Number(bottom - top)}\" fill=\"{SvgCanvas.Color(color)}\"{(ReportPalette.IsRepeated(color) ? $" fill-opacity=\"0.35\" stroke=\"{SvgCanvas.Color(color)}\"" : "")}/>");
        if (spread > 0)
        {
            canvas.Line(middle, y[value - spread], middle, y[value + spread], "#1d1f23", 1.2);
            foreach (double end in (ReadOnlySpan<double>)[value - spread, value + spread])
            {
                canvas.Line(middle - (width / 4), y[end], middle + (width / 4), y[end], "#1d1f23", 1.2);
            }
        }
    }

    private static double Spread(BarSeries series, int group) => series.Spreads is { } spreads && double.IsFinite(spreads[group]) ? spreads[group] : 0;

    /// <summary>The area between the edges of a band, in as many pieces as gaps leave.</summary>
    private static void Band(SvgCanvas canvas, ChartSeries series, in AxisScale x, in AxisScale y, string color)
    {
        for (int i = 0; i < series.X.Count;)
        {
            int end = i;
            while (end < series.X.Count && x.Shows(series.X[end]) && y.Shows(series.Low![end]) && y.Shows(series.High![end]))
            {
                end++;
            }

            if (end - i > 1)
            {
                var points = new StringBuilder();
                for (int at = i; at < end; at++)
                {
                    Point(points, x[series.X[at]], y[series.High![at]]);
                }

                for (int at = end - 1; at >= i; at--)
                {
                    Point(points, x[series.X[at]], y[series.Low![at]]);
                }

                canvas.Raw($"<polygon points=\"{points}\" fill=\"{color}\" fill-opacity=\"0.18\"/>");
            }

            i = end + 1;
        }
    }

    private static void Curve(SvgCanvas canvas, ChartSeries series, in AxisScale x, in AxisScale y, string color)
    {
        var path = new StringBuilder();
        bool isOpen = false;
        for (int i = 0; i < series.X.Count; i++)
        {
            if (!x.Shows(series.X[i]) || !y.Shows(series.Y[i]))
            {
                isOpen = false;
                continue;
            }

            path.Append(isOpen ? 'L' : 'M');
            Point(path, x[series.X[i]], y[series.Y[i]]);
            isOpen = true;
            if (series.Marked)
            {
                canvas.Raw($"<circle cx=\"{SvgCanvas.Number(x[series.X[i]])}\" cy=\"{SvgCanvas.Number(y[series.Y[i]])}\" r=\"3\" fill=\"{color}\"/>");
            }
        }

        canvas.Raw($"<path d=\"{path}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"1.8\" stroke-linejoin=\"round\"{(series.Dashed ? " stroke-dasharray=\"6 4\"" : "")}/>");
    }

    private static void Point(StringBuilder points, double x, double y) => points.Append(SvgCanvas.Number(x)).Append(' ').Append(SvgCanvas.Number(y)).Append(' ');
}
