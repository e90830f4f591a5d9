using System.CommandLine;
using ExactFlow.Cli.Parsing;

namespace ExactFlow.Cli.Commands.Tokenizers;

/// <summary><c>exactflow tokenizer</c>: learns, runs, shows and compares tokenizers.</summary>
internal static class TokenizerCommand
{
    /// <summary>Makes the command.</summary>
    public static Command Create()
    {
        var command = new CliCommand("tokenizer", "Learns a tokenizer, encodes and decodes with one, shows what it is made of, or compares several. Reads tokenizer.json of Hugging Face and GPT-2's encoder.json with vocab.bpe.")
        {
            Examples =
            [
                ("exactflow tokenizer train --text books/ --vocabulary 32000 --out tokenizer.json", "learn one"),
                ("exactflow tokenizer inspect --tokenizer tokenizer.json", "see what one is made of"),
                ("exactflow tokenizer compare gpt2/ tokenizer.json --text book.txt", "see which needs fewer tokens"),
            ],
        };
        foreach (Command part in (Command[])[TokenizerTrainCommand.Create(), TokenizerEncodeCommand.Create(), TokenizerDecodeCommand.Create(), TokenizerInspectCommand.Create(), TokenizerCompareCommand.Create()])
        {
            command.Subcommands.Add(part);
        }

        return command;
    }
}
