using System.CommandLine;

namespace ExactFlow.Cli.Commands.Mad;

/// <summary><c>exactflow mad</c>: the mechanistic architecture benchmark.</summary>
internal static class MadCommand
{
    /// <summary>Makes the command.</summary>
    public static Command Create(Interruption interruption) => new("mad", "The mechanistic architecture benchmark (MAD): small synthetic tasks that tell what a mixer can do, and state tracking.")
    {
        MadRunCommand.Create(interruption),
        MadReportCommand.Create(),
        MadShowCommand.Create(),
        MadExportCommand.Create(),
    };
}
