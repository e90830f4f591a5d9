using System.CommandLine;
using ExactFlow.Tensors;
using ExactFlow.Training.Experiments;

namespace ExactFlow.Cli.Parsing;

/// <summary>The options that commands share which run a study: where results go, where to compute, how many runs at once, how to report.</summary>
internal sealed class StudyOptions
{
    private readonly Option<string> output = Settings.Required("--out", "folder of the study; what it holds already is not run again", "DIR");

    private readonly Option<string> device = new("--device")
    {
        Description = "where to compute: cpu, cuda, cuda:N, or several separated by commas, over which runs are spread",
        HelpName = "NAME,...",
        DefaultValueFactory = _ => "cpu",
    };

    private readonly Option<int> parallel = Settings.Whole("--parallel", "runs at once, in all; several on one GPU fill it where one does not; 0 = one per device", 0, 0, 256);
    private readonly Option<int> threads = Settings.Whole("--threads", "threads to compute with on the CPU; 0 = one per logical processor", 0, 0, 1024);
    private readonly Option<bool> json = new("--json") { Description = "write one JSON document to standard output, and anything else to standard error" };

    /// <summary>Adds the options to a command and returns them.</summary>
    public static StudyOptions AddTo(Command command)
    {
        var options = new StudyOptions();
        foreach (Option option in (Option[])[options.output, options.device, options.parallel, options.threads, options.json])
        {
            command.Options.Add(option);
        }

        return options;
    }

    /// <summary>The study's folder.</summary>
    public string Output(ParseResult parsed) => parsed.GetRequiredValue(output);

    /// <summary>What each worker opens.</summary>
    /// <exception cref="InvalidInputException">A device is named twice.</exception>
    public IReadOnlyList<Func<Device>> Devices(ParseResult parsed)
        => StudyDevices.Plan(parsed.GetRequiredValue(device), parsed.GetRequiredValue(parallel), parsed.GetRequiredValue(threads), CommonOptions.OpenDevice);

    /// <summary>Whether a machine will read the output.</summary>
    public bool WantsJson(ParseResult parsed) => parsed.GetValue(json);
}
