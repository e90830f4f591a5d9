using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using ExactFlow.Cli.Display;
using ExactFlow.Cli.Parsing;
using ExactFlow.Models.Text;
using ExactFlow.Training;
using ExactFlow.Training.Data;

namespace ExactFlow.Cli.Commands.Tokenizers;

/// <summary><c>exactflow tokenizer train</c>: learns a byte-level BPE.</summary>
internal static class TokenizerTrainCommand
{
    /// <summary>Makes the command.</summary>
    public static Command Create()
    {
        Option<string[]> text = TokenizerOptions.Text("text to learn from: files or folders", isRequired: true);
        Option<string> field = Settings.Field();
        Option<string> output = Settings.Required("--out", "file to write", "FILE");
        Option<int> vocabulary = Settings.Whole("--vocabulary", "tokens to learn, the 256 bytes and special tokens among them", 32_000, 256, 1 << 22);
        var special = new Option<string[]>("--special")
        {
            Description = "special tokens, which get the first ids",
            HelpName = "TOKEN",
            AllowMultipleArgumentsPerToken = true,
            DefaultValueFactory = _ => [TokenizedText.EndOfTextToken],
        };
        Option<int> threads = TokenizerOptions.Threads();
        Option<bool> json = TokenizerOptions.Json();
        var command = new CliCommand("train", "Learns a byte-level BPE from text and writes a tokenizer.json. The same text gives the same file, on any number of threads.")
        {
            Examples =
            [
                ("exactflow tokenizer train --text books/ --vocabulary 32000 --out tokenizer.json", "learn from all texts of a folder"),
                ("exactflow tokenizer train --text book.txt --special \"<|endoftext|>\" \"<|user|>\" --out chat.json", "with special tokens of one's own"),
            ],
        };
        command.Options.Add(text);
        command.Options.Add(field);
        command.Options.Add(output);
        command.Options.Add(vocabulary);
        command.Options.Add(special);
        command.Options.Add(threads);
        command.Options.Add(json);
        command.SetAction(parsed =>
        {
            long start = Stopwatch.GetTimestamp();
            ReadOnlyMemory<byte> bytes = TextSource.Read(parsed.GetRequiredValue(text), parsed.GetRequiredValue(field));
            BytePairTokenizer tokenizer = BytePairTokenizer.Train([bytes], parsed.GetRequiredValue(vocabulary), parsed.GetRequiredValue(special), parsed.GetRequiredValue(threads));
            string path = parsed.GetRequiredValue(output);
            tokenizer.Save(path);
            double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
            if (parsed.GetValue(json))
            {
                JsonOutput.Write(new { Path = path, tokenizer.VocabularySize, Merges = tokenizer.MergeCount, Bytes = bytes.Length, Seconds = seconds });
                return;
            }

            Console.WriteLine(string.Create(
                CultureInfo.InvariantCulture,
                $"{path}: {tokenizer.VocabularySize:#,0} tokens, {tokenizer.MergeCount:#,0} merges, learned from {Units.Bytes(bytes.Length)} in {seconds:0.00} s"));
        });
        return command;
    }
}
