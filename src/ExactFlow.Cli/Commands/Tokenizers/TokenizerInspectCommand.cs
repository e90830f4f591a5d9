using System.CommandLine;
using System.Globalization;
using ExactFlow.Cli.Display;
using ExactFlow.Cli.Parsing;
using ExactFlow.Models.Text;

namespace ExactFlow.Cli.Commands.Tokenizers;

/// <summary><c>exactflow tokenizer inspect</c>: what a tokenizer is made of.</summary>
internal static class TokenizerInspectCommand
{
    private const int AddedTokensShown = 40;

    /// <summary>Makes the command.</summary>
    public static Command Create()
    {
        Option<string> tokenizer = TokenizerOptions.Tokenizer();
        Option<bool> json = TokenizerOptions.Json();
        var command = new CliCommand("inspect", "Shows what a tokenizer is made of: size, components in the order they work, added tokens.")
        {
            Examples =
            [
                ("exactflow tokenizer inspect --tokenizer tokenizer.json", "for people"),
                ("exactflow tokenizer inspect --tokenizer gpt2/ --json", "for a script"),
            ],
        };
        command.Options.Add(tokenizer);
        command.Options.Add(json);
        command.SetAction(parsed =>
        {
            BytePairTokenizer loaded = BytePairTokenizer.Load(parsed.GetRequiredValue(tokenizer));
            if (parsed.GetValue(json))
            {
                JsonOutput.Write(new
                {
                    loaded.VocabularySize,
                    Merges = loaded.MergeCount,
                    Components = loaded.Components.ToDictionary(part => part.Part, part => part.Description, StringComparer.Ordinal),
                    loaded.Surrounding.Before,
                    loaded.Surrounding.After,
                    loaded.AddedTokens,
                });
                return;
            }

            Show(loaded);
        });
        return command;
    }

    private static void Show(BytePairTokenizer tokenizer)
    {
        Write("tokens", string.Create(CultureInfo.InvariantCulture, $"{tokenizer.VocabularySize:#,0}"));
        Write("merges", string.Create(CultureInfo.InvariantCulture, $"{tokenizer.MergeCount:#,0}"));
        foreach ((string part, string description) in tokenizer.Components)
        {
            Write(part, description);
        }

        Write("before a text", string.Join(' ', tokenizer.Surrounding.Before.Select(id => tokenizer.TokenOf(id))));
        Write("after a text", string.Join(' ', tokenizer.Surrounding.After.Select(id => tokenizer.TokenOf(id))));
        foreach (AddedToken token in tokenizer.AddedTokens.Take(AddedTokensShown))
        {
            Write($"added {token.Id}", $"'{token.Content}'{Flags(token)}");
        }

        if (tokenizer.AddedTokens.Count > AddedTokensShown)
        {
            Write("", $"and {tokenizer.AddedTokens.Count - AddedTokensShown} more (--json shows all)");
        }
    }

    private static string Flags(AddedToken token)
        => (token.IsSpecial ? ", special" : "") + (token.Normalized ? ", normalized" : "") + (token.SingleWord ? ", single word" : "")
            + (token.LeftStrip ? ", lstrip" : "") + (token.RightStrip ? ", rstrip" : "");

    private static void Write(string name, string value) => Console.WriteLine($"{name,-16}{value}");
}
