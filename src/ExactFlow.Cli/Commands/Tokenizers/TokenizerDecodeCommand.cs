using System.CommandLine;
using System.Globalization;
using ExactFlow.Cli.Display;
using ExactFlow.Cli.Parsing;
using ExactFlow.Models.Text;
using ExactFlow.Tensors;

namespace ExactFlow.Cli.Commands.Tokenizers;

/// <summary><c>exactflow tokenizer decode</c>: ids to text.</summary>
internal static class TokenizerDecodeCommand
{
    /// <summary>Makes the command.</summary>
    public static Command Create()
    {
        Option<string> tokenizer = TokenizerOptions.Tokenizer();
        var ids = new Argument<string[]>("IDS") { Description = "ids, separated by blanks or commas; without any, standard input", Arity = ArgumentArity.ZeroOrMore };
        var skip = new Option<bool>("--skip-special") { Description = "leave out special tokens" };
        Option<bool> json = TokenizerOptions.Json();
        var command = new CliCommand("decode", "Writes the text of token ids.")
        {
            Examples =
            [
                ("exactflow tokenizer decode --tokenizer tokenizer.json 15496 995", "the text of two ids"),
                ("exactflow tokenizer decode --tokenizer tokenizer.json --skip-special < ids.txt", "of a file"),
            ],
        };
        command.Arguments.Add(ids);
        command.Options.Add(tokenizer);
        command.Options.Add(skip);
        command.Options.Add(json);
        command.SetAction(parsed =>
        {
            BytePairTokenizer loaded = BytePairTokenizer.Load(parsed.GetRequiredValue(tokenizer));
            string[] given = parsed.GetValue(ids) is { Length: > 0 } arguments ? arguments : [Console.In.ReadToEnd()];
            int[] numbers = [.. given.SelectMany(part => part.Split([' ', ',', '\n', '\r', '\t', '[', ']'], StringSplitOptions.RemoveEmptyEntries)).Select(Parse)];
            string text = loaded.Decode(numbers, parsed.GetValue(skip));
            if (parsed.GetValue(json))
            {
                JsonOutput.Write(new { Text = text });
                return;
            }

            Console.Out.WriteLine(text);
        });
        return command;
    }

    private static int Parse(string text) => int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int id)
        ? id
        : throw new InvalidInputException($"Token ids are whole numbers from 0, separated by blanks or commas, but one is '{text}'; give what 'exactflow tokenizer encode' writes.");
}
