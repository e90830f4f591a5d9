using System.CommandLine;

namespace ExactFlow.Cli.Commands;

/// <summary><c>exactflow data</c>: corpora that were encoded once and for all, and data sets to fetch.</summary>
internal static class DataCommand
{
    /// <summary>Makes the command.</summary>
    public static Command Create(Interruption interruption) => new("data", "Packs a corpus into shards of tokens that training maps into memory, shows what they hold, and fetches public data sets.")
    {
        DataPackCommand.Create(interruption),
        DataInspectCommand.Create(),
        DataGetCommand.Create(interruption),
    };
}
