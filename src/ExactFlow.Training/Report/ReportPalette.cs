namespace ExactFlow.Training.Report;

/// <summary>
/// The colours of series, in pages and in figures. On paper any two lie at least 29 apart in CIELAB, on a dark page 20. What has a number beyond the last begins
/// again and must be told apart by other means: <see cref="IsRepeated"/>.
/// </summary>
internal static class ReportPalette
{
    /// <summary>How many there are.</summary>
    public static int Count => Light.Length;

    /// <summary>On a light background.</summary>
    public static string[] Light { get; } = ["#0b6fb8", "#c8501c", "#15805c", "#8a3ea8", "#a87b00", "#b8325e", "#3c7d96", "#6b6b1f", "#512d2d", "#b487b4", "#c67e6c", "#5aa23f"];

    /// <summary>On a dark background.</summary>
    public static string[] Dark { get; } = ["#5fb3f0", "#f28b5b", "#4fc79a", "#cf8be6", "#dcb64a", "#f07fa3", "#83c4da", "#c4c46a", "#a28775", "#fcd8fc", "#e1eacf", "#2fe0e0"];

    /// <summary>Whether a series of this number has the colour of an earlier one: its line is dashed, its bars are pale with a border.</summary>
    public static bool IsRepeated(int index) => index >= Count;

    /// <summary>Variables of a style sheet: <c>--c0</c> and on, and their number <c>--colors</c>.</summary>
    public static string Style(string[] colors) => $"--colors: {colors.Length}; {string.Join(' ', colors.Select((color, index) => $"--c{index}: {color};"))}";
}
