using System.Globalization;

namespace ExactFlow.Cli.Display;

/// <summary>Numbers as people read them.</summary>
internal static class Units
{
    /// <summary>1234567 as <c>1.23 M</c>.</summary>
    public static string Count(double value) => Scaled(value, 1000, ["", " K", " M", " G", " T"]);

    /// <summary>Bytes as <c>1.5 GiB</c>.</summary>
    public static string Bytes(double value) => Scaled(value, 1024, [" B", " KiB", " MiB", " GiB", " TiB"]);

    /// <summary>A rate per second in thousands of millions, as <c>104.9 G</c>.</summary>
    public static string Giga(double perSecond) => (perSecond / 1e9).ToString("0.0", CultureInfo.InvariantCulture) + " G";

    /// <summary>A share as <c>45.2 %</c>; a dash when unknown.</summary>
    public static string Percent(double share) => double.IsFinite(share) ? (share * 100).ToString("0.0", CultureInfo.InvariantCulture) + " %" : "-";

    /// <summary>A span of time as <c>1:05</c> or <c>2:03:04</c>; a dash when unknown.</summary>
    public static string Duration(double seconds)
    {
        if (!double.IsFinite(seconds) || seconds < 0 || seconds > 1e8)
        {
            return "-";
        }

        var span = TimeSpan.FromSeconds(Math.Ceiling(seconds));
        return span.TotalHours >= 1 ? $"{(int)span.TotalHours}:{span.Minutes:00}:{span.Seconds:00}" : $"{span.Minutes}:{span.Seconds:00}";
    }

    /// <summary>Three significant digits and the largest unit that leaves at least 1.</summary>
    private static string Scaled(double value, double unit, string[] names)
    {
        int index = 0;
        while (Math.Abs(value) >= unit && index + 1 < names.Length)
        {
            value /= unit;
            index++;
        }

        string format = index == 0 || Math.Abs(value) >= 99.95 ? "0" : Math.Abs(value) >= 9.995 ? "0.0" : "0.00";
        return value.ToString(format, CultureInfo.InvariantCulture) + names[index];
    }
}
