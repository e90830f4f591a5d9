using System.CommandLine;
using ExactFlow.Cli.Parsing;
using ExactFlow.Training.Experiments;
using ExactFlow.Training.Experiments.Mad;

namespace ExactFlow.Cli.Commands.Mad;

/// <summary><c>exactflow mad report</c>: tables and charts of a study, also while it runs.</summary>
internal static class MadReportCommand
{
    /// <summary>Makes the command.</summary>
    public static Command Create()
    {
        Option<string> study = Settings.Required("--study", "folder that 'exactflow mad run' writes", "DIR");
        Option<string?> output = Settings.Optional("--out", "folder for report.html, report.md, baseline.svg and, with harder settings, means.svg; default: the study's", "DIR");
        var command = new CliCommand("report", "Makes tables, bar charts and curves out of the results of 'mad run', and prints the tables as Markdown.")
        {
            Examples = [("exactflow mad report --study mad", "report.html in the study's folder")],
        };
        command.Options.Add(study);
        command.Options.Add(output);
        command.SetAction(parsed =>
        {
            string folder = parsed.GetRequiredValue(study), target = parsed.GetValue(output) ?? folder;
            IReadOnlyList<StudyRecord<MadResult>> records = StudyFolder<MadResult>.Read(folder, MadStudy.Name);
            Directory.CreateDirectory(target);
            MadReportFiles.Write(target, records, CommandText.Of(parsed));
            Console.WriteLine(new MadReport(records.Select(record => record.Result)).Markdown());
        });
        return command;
    }
}
