using System.CommandLine;
using ExactFlow.Cli.Parsing;
using ExactFlow.Training.Experiments.SequentialMnist;

namespace ExactFlow.Cli.Commands.SequentialMnist;

/// <summary><c>exactflow smnist report</c>: the page, figures and tables of a study.</summary>
internal static class SmnistReportCommand
{
    /// <summary>Makes the command.</summary>
    public static Command Create()
    {
        var folder = new Argument<string>("DIR") { Description = "the study's folder, as exactflow smnist run wrote it; it may still be running" };
        var command = new CliCommand("report", "Writes report.html (one file that needs nothing else), SVG figures and summary.md of the runs that are finished.")
        {
            Examples = [("exactflow smnist report runs/smnist", "from what is finished so far")],
        };
        command.Arguments.Add(folder);
        command.SetAction(parsed =>
        {
            foreach (string path in SequentialMnistReport.Write(parsed.GetRequiredValue(folder), CommandText.Of(parsed)))
            {
                Console.WriteLine(path);
            }

            return ExitCode.Success;
        });
        return command;
    }
}
