using System.CommandLine;

namespace ExactFlow.Cli.Commands;

/// <summary><c>exactflow data</c>: corpora that were encoded once and for all.</summary>
internal static class DataCommand
{
    /// <summary>Makes the command.</summary>
    public static Command Create(Interruption interruption) => new("data", "Packs a corpus into shards of tokens that training maps into memory, and shows what they hold.")
    {
        DataPackCommand.Create(interruption),
        DataInspectCommand.Create(),
    };
}
