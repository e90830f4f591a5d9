using System.Net;
using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.RegularExpressions;
using ExactFlow.Tensors.Files;

namespace ExactFlow.Training.Report;

/// <summary>
/// A report as one HTML file that needs nothing else: style, data, drawing code and the charting library (uPlot, MIT) are inside, and it asks the network for nothing.
/// </summary>
public static partial class HtmlReport
{
    /// <summary>Keys in snake_case like the other files of a run. The default encoder escapes &lt;, &gt; and &amp;, so no text can end the script element that holds it.</summary>
    private static readonly JsonSerializerOptions Data = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower, Converters = { new GapConverter() } };

    /// <summary>The page as text.</summary>
    public static string Render(ReportPage page)
    {
        ArgumentNullException.ThrowIfNull(page);

        // One pass over the template: what is filled in is never searched for placeholders.
        return Placeholder().Replace(Resource("report.html"), match => match.Groups[1].Value switch
        {
            "title" => WebUtility.HtmlEncode(page.Title),
            "palette.light" => ReportPalette.Style(ReportPalette.Light),
            "palette.dark" => ReportPalette.Style(ReportPalette.Dark),
            "data" => JsonSerializer.Serialize(page, Data),
            string name => Resource(name),
        });
    }

    /// <summary>Writes the page to a file, whole or not at all.</summary>
    public static void Write(string path, ReportPage page) => AtomicFile.WriteAllText(path, Render(page));

    private static string Resource(string name)
    {
        using Stream stream = typeof(HtmlReport).Assembly.GetManifestResourceStream(name)
            ?? throw new InvalidOperationException($"The report's part '{name}' is not embedded in {typeof(HtmlReport).Assembly.GetName().Name}.");
        using var reader = new StreamReader(stream);
        return reader.ReadToEnd();
    }

    [GeneratedRegex(@"\{\{([a-z.]+)\}\}")]
    private static partial Regex Placeholder();

    /// <summary>Numbers that are not finite, which JSON does not have, become null, which the page draws as a gap.</summary>
    private sealed class GapConverter : JsonConverter<double>
    {
        public override double Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) => reader.TokenType == JsonTokenType.Null ? double.NaN : reader.GetDouble();

        public override void Write(Utf8JsonWriter writer, double value, JsonSerializerOptions options)
        {
            if (double.IsFinite(value))
            {
                writer.WriteNumberValue(value);
            }
            else
            {
                writer.WriteNullValue();
            }
        }
    }
}
