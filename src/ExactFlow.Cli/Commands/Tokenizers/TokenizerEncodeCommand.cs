using System.CommandLine;
using ExactFlow.Cli.Display;
using ExactFlow.Cli.Parsing;
using ExactFlow.Models.Text;
using ExactFlow.Training.Data;

namespace ExactFlow.Cli.Commands.Tokenizers;

/// <summary><c>exactflow tokenizer encode</c>: text to ids.</summary>
internal static class TokenizerEncodeCommand
{
    /// <summary>Makes the command.</summary>
    public static Command Create()
    {
        Option<string> tokenizer = TokenizerOptions.Tokenizer();
        Option<string?> prompt = Settings.Optional("--prompt", "text to encode; without it and --text, standard input", "TEXT");
        Option<string[]> text = TokenizerOptions.Text("text to encode: files or folders", isRequired: false);
        Option<string> field = Settings.Field();
        var bare = new Option<bool>("--bare") { Description = "leave out the special tokens that the tokenizer puts before and after a text" };
        var literal = new Option<bool>("--literal") { Description = "treat the contents of special tokens as text like any other" };
        Option<bool> json = TokenizerOptions.Json();
        var command = new CliCommand("encode", "Writes the token ids of a text, on one line.")
        {
            Examples =
            [
                ("exactflow tokenizer encode --tokenizer tokenizer.json --prompt \"Exact flow\"", "the ids of a text"),
                ("exactflow tokenizer encode --tokenizer tokenizer.json --text book.txt --bare > ids.txt", "the ids of a file, without special tokens"),
                ("exactflow tokenizer encode --tokenizer tokenizer.json --prompt \"Exact flow\" --json", "with the tokens"),
            ],
        };
        command.Options.Add(tokenizer);
        command.Options.Add(prompt);
        command.Options.Add(text);
        command.Options.Add(field);
        command.Options.Add(bare);
        command.Options.Add(literal);
        command.Options.Add(json);
        command.SetAction(parsed =>
        {
            BytePairTokenizer loaded = BytePairTokenizer.Load(parsed.GetRequiredValue(tokenizer));
            bool recognise = !parsed.GetValue(literal), surround = !parsed.GetValue(bare);
            int[] ids = parsed.GetValue(prompt) is { } given ? loaded.Encode(given, recognise, surround)
                : parsed.GetValue(text) is { Length: > 0 } files ? loaded.Encode(TextSource.Read(files, parsed.GetRequiredValue(field)).Span, recognise, surround)
                : loaded.Encode(ReadInput(), recognise, surround);
            if (parsed.GetValue(json))
            {
                JsonOutput.Write(new { Ids = ids, Tokens = ids.Select(loaded.TokenOf) });
                return;
            }

            Console.Out.WriteLine(string.Join(' ', ids));
        });
        return command;
    }

    private static byte[] ReadInput()
    {
        using Stream input = Console.OpenStandardInput();
        using MemoryStream bytes = new();
        input.CopyTo(bytes);
        return bytes.ToArray();
    }
}
