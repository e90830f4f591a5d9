using System.Xml.Linq;
using ExactFlow.Training.Report;

namespace ExactFlow.Training.Tests.Report;

public class SvgFigureTests
{
    private static readonly XNamespace Svg = "http://www.w3.org/2000/svg";

    internal static LineChart Example(bool log = false) => new()
    {
        Title = "accuracy & <loss>",
        XLabel = "learning rate",
        YLabel = "accuracy, %",
        LogX = log,
        Series =
        [
            new ChartSeries("efla", [1e-4, 1e-3, 1e-2], [70, 90, 80], [60, 85, 75], [75, 95, 85]) { Marked = true },
            new ChartSeries("deltanet", [1e-4, 1e-3, 1e-2], [50, double.NaN, 60]) { Dashed = true, Color = 3 },
        ],
    };

    private static double[] Numbers(string text) => [.. text.Split([' ', 'M', 'L'], StringSplitOptions.RemoveEmptyEntries).Select(double.Parse)];

    [Fact]
    public void Lines_are_where_their_values_say()
    {
        XElement figure = XDocument.Parse(SvgFigure.Render(Example(log: true))).Root!;
        XElement[] paths = [.. figure.Elements(Svg + "path")];
        double[] first = Numbers(paths[0].Attribute("d")!.Value);
        Assert.Equal(6, first.Length);

        // A tenth apart each on a logarithmic axis: equally far from each other.
        Assert.Equal(first[2] - first[0], first[4] - first[2], 0.02);
        Assert.Equal((first[1] - first[3]) / 2, first[5] - first[3], 0.02);
        Assert.True(first[3] < first[5] && first[5] < first[1]);
        double[] band = Numbers(figure.Element(Svg + "polygon")!.Attribute("points")!.Value);
        Assert.Equal(12, band.Length);
        Assert.True(band[1] < first[1] && first[1] < band[11]);

        // A gap breaks a line into pieces.
        Assert.Equal(2, paths[1].Attribute("d")!.Value.Count(letter => letter == 'M'));
        Assert.NotNull(paths[1].Attribute("stroke-dasharray"));
        Assert.Contains(figure.Elements(Svg + "text"), text => text.Value == "accuracy & <loss>");
    }

    [Fact]
    public void Bars_begin_at_zero_and_error_bars_are_around_their_ends()
    {
        var chart = new BarChart
        {
            Title = "tasks",
            YLabel = "accuracy",
            Groups = ["recall", "copying"],
            Series = [new BarSeries("efla", [0.5, 1], [0.1, 0]), new BarSeries("deltanet", [0.25, double.NaN])],
        };
        XElement figure = XDocument.Parse(SvgFigure.Render(chart)).Root!;
        double number(XElement element, string name) => double.Parse(element.Attribute(name)!.Value);
        XElement[] bars = [.. figure.Elements(Svg + "rect").Skip(1)];
        Assert.Equal(3, bars.Length);
        double[] heights = [.. bars.Select(bar => number(bar, "height"))];
        Assert.Equal(2 * heights[1], heights[0], 0.05);
        Assert.Equal(2 * heights[0], heights[2], 0.05);
        Assert.All(bars, bar => Assert.Equal(number(bars[0], "y") + heights[0], number(bar, "y") + number(bar, "height"), 0.02));
        XElement error = figure.Elements(Svg + "line").Single(line => line.Attribute("stroke-width")!.Value == "1.2" && line.Attribute("x1")!.Value == line.Attribute("x2")!.Value);
        Assert.Equal(number(bars[0], "y"), (number(error, "y1") + number(error, "y2")) / 2, 0.02);
        Assert.Equal(heights[0] * 0.4, number(error, "y1") - number(error, "y2"), 0.05);
    }

    [Fact]
    public void Twelve_series_have_colours_of_their_own_and_repeated_ones_are_pale_with_a_border()
    {
        var chart = new BarChart { Title = "mixers", YLabel = "accuracy", Groups = ["recall"], Series = [.. Enumerable.Range(0, 13).Select(i => new BarSeries($"mixer {i}", [1]))] };
        XElement[] bars = [.. XDocument.Parse(SvgFigure.Render(chart)).Root!.Elements(Svg + "rect").Skip(1)];
        Assert.Equal(12, bars[..12].Select(bar => bar.Attribute("fill")!.Value).Distinct().Count());
        Assert.All(bars[..12], bar => Assert.Null(bar.Attribute("fill-opacity")));
        Assert.Equal(bars[0].Attribute("fill")!.Value, bars[12].Attribute("fill")!.Value);
        Assert.NotNull(bars[12].Attribute("fill-opacity"));

        // A page has them too, on both backgrounds.
        string html = HtmlReport.Render(new ReportPage { Title = "a study", Subtitle = "", Command = "exactflow" });
        Assert.All(ReportPalette.Light.Concat(ReportPalette.Dark), color => Assert.Contains($": {color};", html, StringComparison.Ordinal));
        Assert.Equal(ReportPalette.Light.Length, ReportPalette.Dark.Distinct().Count());
    }

    [Fact]
    public void A_page_holds_charts_tables_and_figures_with_gaps_as_null()
    {
        string html = HtmlReport.Render(new ReportPage
        {
            Title = "a study",
            Subtitle = "",
            Command = "exactflow",
            Tables = [new ReportTable("Rates", "", ["rule"], [new ReportRow(0, [new("efla", "0.1")])])],
            Charts = [Example()],
            Figures = [new ReportFigure("Bars", "", SvgFigure.Render(Example()))],
        });
        Assert.Contains("\"y\":[50,null,60]", html, StringComparison.Ordinal);
        Assert.Contains("\"log_x\":false", html, StringComparison.Ordinal);
        Assert.Contains("\"svg\":\"", html, StringComparison.Ordinal);
    }
}
