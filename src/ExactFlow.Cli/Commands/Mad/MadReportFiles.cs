using ExactFlow.Tensors.Files;
using ExactFlow.Training.Experiments;
using ExactFlow.Training.Experiments.Mad;
using ExactFlow.Training.Report;

namespace ExactFlow.Cli.Commands.Mad;

/// <summary>The files that tell what a study found.</summary>
internal static class MadReportFiles
{
    /// <summary>The page with everything.</summary>
    public const string Page = "report.html";

    /// <summary>Writes page, Markdown and the bar charts into the study's folder; nothing without results.</summary>
    public static void Write(string folder, IReadOnlyList<StudyRecord<MadResult>> records, string command)
    {
        if (records.Count == 0)
        {
            return;
        }

        var report = new MadReport(records.Select(record => record.Result));
        KeyValuePair<string, string>[] facts =
        [
            new("machine", string.Join(", ", records.Select(record => record.Device).Distinct(StringComparer.Ordinal))),
            new("commit", string.Join(", ", records.Select(record => record.Commit ?? "not known").Distinct(StringComparer.Ordinal))),
        ];
        HtmlReport.Write(Path.Combine(folder, Page), report.Page(command, facts));
        AtomicFile.WriteAllText(Path.Combine(folder, "report.md"), report.Markdown());
        foreach ((string name, BarChart? bars) in ((string, BarChart?)[])[("baseline.svg", report.Bars()), ("means.svg", report.MeanBars())])
        {
            if (bars is not null)
            {
                SvgFigure.Write(Path.Combine(folder, name), bars);
            }
        }
    }
}
