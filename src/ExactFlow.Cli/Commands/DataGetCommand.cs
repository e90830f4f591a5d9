using System.CommandLine;
using System.Globalization;
using ExactFlow.Cli.Display;
using ExactFlow.Cli.Parsing;
using ExactFlow.Tensors;
using ExactFlow.Training.Data.Downloads;

namespace ExactFlow.Cli.Commands;

/// <summary><c>exactflow data get</c>: public data sets from their mirrors.</summary>
internal static class DataGetCommand
{
    private static readonly string[] Sets = ["mnist"];

    /// <summary>Makes the command.</summary>
    public static Command Create(Interruption interruption)
    {
        var set = new Argument<string>("SET") { Description = $"which data set: {string.Join(", ", Sets)}" };
        Option<string> output = Settings.Required("--out", "folder to put the files in; what is there already is checked and kept", "DIR");
        Option<string?> mirror = Settings.Optional("--mirror", "address under which the files lie, tried before the public mirrors", "URL");
        var command = new CliCommand("get", "Fetches a public data set. A download that broke off goes on where it was; every file is checked by its SHA-256 before it bears its name.")
        {
            Examples = [("exactflow data get mnist --out mnist/", "the four files of MNIST, 11 MB")],
        };
        command.Arguments.Add(set);
        command.Options.Add(output);
        command.Options.Add(mirror);
        command.SetAction(parsed => Run(parsed.GetRequiredValue(set), parsed.GetRequiredValue(output), parsed.GetValue(mirror), interruption.StopCleanly()));
        return command;
    }

    private static int Run(string set, string folder, string? mirror, CancellationToken stop)
    {
        if (!Sets.Contains(set))
        {
            throw new InvalidInputException($"There is no data set '{set}' to fetch; choose from {string.Join(", ", Sets)}{Suggestion.For(set, Sets)}.");
        }

        using var downloader = new Downloader(report: Show);
        try
        {
            downloader.Fetch(MnistFiles.All, [.. Mirror(mirror), .. MnistFiles.Mirrors], folder, stop).GetAwaiter().GetResult();
        }
        catch (OperationCanceledException) when (stop.IsCancellationRequested)
        {
            Console.WriteLine("stopped; the same command goes on");
            return ExitCode.Interrupted;
        }

        return ExitCode.Success;
    }

    private static IEnumerable<Uri> Mirror(string? address)
    {
        if (address is null)
        {
            return [];
        }

        return Uri.TryCreate(address.EndsWith('/') ? address : address + "/", UriKind.Absolute, out Uri? parsed) && parsed.Scheme is ("http" or "https")
            ? [parsed]
            : throw new InvalidInputException($"--mirror takes an address that begins with http:// or https://, but it is '{address}'.");
    }

    private static void Show(DownloadProgress progress)
    {
        if (progress.Event is { } happened)
        {
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{progress.File}: {happened}, {Units.Bytes(progress.Bytes)} here"));
        }
    }
}
