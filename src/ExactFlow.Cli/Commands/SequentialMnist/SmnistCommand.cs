using System.CommandLine;

namespace ExactFlow.Cli.Commands.SequentialMnist;

/// <summary><c>exactflow smnist</c>: the robustness study of sequential MNIST.</summary>
internal static class SmnistCommand
{
    /// <summary>Makes the command.</summary>
    public static Command Create(Interruption interruption) => new("smnist", "The paper's robustness study: digits read pixel by pixel, tested under brighter images, noise and lost pixels.")
    {
        SmnistRunCommand.Create(interruption),
        SmnistReportCommand.Create(),
    };
}
