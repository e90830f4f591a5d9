using System.CommandLine;
using ExactFlow.Cuda;
using ExactFlow.Tensors;

namespace ExactFlow.Cli.Parsing;

/// <summary>The options that commands share: where to compute, how to report.</summary>
internal sealed class CommonOptions
{
    /// <summary><c>--device</c>.</summary>
    public Option<string> Device { get; } = new("--device")
    {
        Description = "where to compute: cpu, cuda or cuda:N",
        HelpName = "NAME",
        DefaultValueFactory = _ => "cpu",
    };

    /// <summary><c>--threads</c>.</summary>
    public Option<int> Threads { get; } = Settings.Whole("--threads", "threads to compute with on the CPU; 0 = one per logical processor", 0, 0, 1024);

    /// <summary><c>--json</c>.</summary>
    public Option<bool> Json { get; } = new("--json") { Description = "write one JSON document to standard output, and anything else to standard error" };

    /// <summary>Adds the options to a command and returns them.</summary>
    public static CommonOptions AddTo(Command command)
    {
        var options = new CommonOptions();
        command.Options.Add(options.Device);
        command.Options.Add(options.Threads);
        command.Options.Add(options.Json);
        return options;
    }

    /// <summary>What opens a device by its name and a number of CPU threads; tests put a GPU made of host memory there.</summary>
    internal static Func<string, int, Device> OpenDevice { get; set; } = DeviceFactory.Parse;

    /// <summary>Opens the device that was asked for.</summary>
    /// <exception cref="InvalidInputException">There is no such device.</exception>
    public Device Open(ParseResult parsed) => OpenDevice(parsed.GetRequiredValue(Device), parsed.GetRequiredValue(Threads));

    /// <summary>The GPU's name for reports, or null on the CPU.</summary>
    public static string? Describe(Device device) => device is CudaDevice gpu ? $"{gpu.Name}: {gpu.ModelName}" : null;

    /// <summary>Whether a machine will read the output.</summary>
    public bool WantsJson(ParseResult parsed) => parsed.GetValue(Json);
}
