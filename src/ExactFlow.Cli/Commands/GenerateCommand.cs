using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.Text;
using ExactFlow.Cli.Display;
using ExactFlow.Cli.Parsing;
using ExactFlow.Models;
using ExactFlow.Models.Text;
using ExactFlow.Tensors;

namespace ExactFlow.Cli.Commands;

/// <summary><c>exactflow generate</c>: continues a prompt, or one line after the other with a carried state.</summary>
internal static class GenerateCommand
{
    /// <summary>Makes the command.</summary>
    public static Command Create()
    {
        Option<string> model = Settings.Required("--model", "folder of a model, a checkpoint or a run (its newest checkpoint)", "DIR");
        Option<string?> prompt = Settings.Optional("--prompt", "what to continue; without it, standard input, or on a terminal one line after the other", "TEXT");
        Option<int> tokens = Settings.Whole("--tokens", "most tokens to write", 128, 1);
        Option<double> temperature = Settings.Number("--temperature", "how boldly to draw; 0 = always the likeliest token", 0.8, 0, 100);
        Option<int> topK = Settings.Whole("--top-k", "draw among this many of the likeliest tokens; 0 = all", 0, 0);
        Option<double> topP = Settings.Number("--top-p", "draw among the likeliest tokens that together have this probability", 1, 1e-6, 1);
        Option<double> minP = Settings.Number("--min-p", "draw among tokens at least this fraction as likely as the likeliest", 0, 0, 1);
        Option<double> penalty = Settings.Number("--repetition-penalty", "makes tokens seen before less likely; 1 = off", 1, 1e-3, 1e3);
        Option<ulong> seed = Settings.Seed("same seed, same text");
        Option<string> precision = Settings.Precision();
        var command = new CliCommand("generate", "Continues a text. Memory does not grow with the length, except for softmax attention.")
        {
            Examples =
            [
                ("exactflow generate --model runs/first --prompt \"Returns the\"", "continue a prompt"),
                ("exactflow generate --model runs/first --temperature 0 --tokens 20 --prompt \"Returns the\" --json", "the likeliest continuation, for a script"),
                ("exactflow generate --model runs/first", "type lines, each is continued, and the model remembers all before"),
            ],
        };
        foreach (Option option in (Option[])[model, prompt, tokens, temperature, topK, topP, minP, penalty, seed, precision])
        {
            command.Options.Add(option);
        }

        CommonOptions common = CommonOptions.AddTo(command);
        command.SetAction(parsed =>
        {
            using Device device = common.Open(parsed);
            using TrainedModel trained = TrainedModel.Load(device, parsed.GetRequiredValue(model), parsed.GetRequiredValue(precision));
            GenerationOptions options = ModelFolder.LoadGeneration(trained.Folder) with
            {
                MaxTokens = parsed.GetRequiredValue(tokens),
                Sampling = new SamplerOptions
                {
                    Temperature = parsed.GetRequiredValue(temperature),
                    TopK = parsed.GetRequiredValue(topK),
                    TopP = parsed.GetRequiredValue(topP),
                    MinP = parsed.GetRequiredValue(minP),
                    RepetitionPenalty = parsed.GetRequiredValue(penalty),
                    Seed = parsed.GetRequiredValue(seed),
                },
            };
            var writer = new Writer(trained, options);
            if (parsed.GetValue(prompt) is { } text)
            {
                writer.Continue(text, common.WantsJson(parsed));
            }
            else if (Console.IsInputRedirected || common.WantsJson(parsed))
            {
                writer.Continue(Console.In.ReadToEnd(), common.WantsJson(parsed));
            }
            else
            {
                writer.Converse();
            }
        });
        return command;
    }

    private sealed class Writer(TrainedModel trained, GenerationOptions options)
    {
        private readonly Generator generator = new(trained.Model);

        /// <summary>Writes one continuation, or all of it as JSON.</summary>
        public void Continue(string prompt, bool wantsJson)
        {
            int[] ids = Encode(prompt, isFirst: true);
            var text = new StringBuilder();
            if (!wantsJson)
            {
                Console.Write(prompt);
            }

            long start = Stopwatch.GetTimestamp();
            List<int> written = Stream(ids, null, piece =>
            {
                text.Append(piece);
                if (!wantsJson)
                {
                    Console.Write(piece);
                }
            });
            double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
            if (wantsJson)
            {
                JsonOutput.Write(new { Prompt = prompt, Text = text.ToString(), PromptTokens = ids.Length, Tokens = written.Count, Seconds = seconds, TokensPerSecond = written.Count / seconds });
                return;
            }

            Console.WriteLine();
            Console.Error.WriteLine(string.Create(CultureInfo.InvariantCulture, $"tokens: {ids.Length} read, {written.Count} written, {written.Count / seconds:0.0} per second"));
        }

        /// <summary>Continues line after line; the state carries everything before, in constant memory for recurrent models.</summary>
        public void Converse()
        {
            using ModelState state = trained.Model.CreateState();
            List<int> last = [];
            Console.Write("> ");
            while (Console.ReadLine() is { } line)
            {
                // The state has not read the last token yet: the next prompt begins with it.
                int[] ids = [.. last.TakeLast(1), .. Encode(line, isFirst: last.Count == 0)];
                if (ids.Length > 0)
                {
                    last = Stream(ids, state, Console.Write);
                    Console.WriteLine();
                }

                Console.Write("> ");
            }
        }

        private int[] Encode(string text, bool isFirst)
        {
            int[] ids = trained.Tokenizer.Encode(text);
            return ids.Length == 0 && isFirst && trained.ContextToken is { } begin ? [begin] : ids;
        }

        private List<int> Stream(int[] prompt, ModelState? state, Action<string> show)
        {
            var written = new List<int>();
            var decoder = new TextDecoder(trained.Tokenizer);
            foreach (int token in generator.Stream(prompt, options, state))
            {
                written.Add(token);
                if (token < trained.Tokenizer.VocabularySize && decoder.Append(token) is { Length: > 0 } piece)
                {
                    show(piece);
                }
            }

            // A character that never got all its bytes is not shown, but text that only waited for its end is.
            if (decoder.Finish() is { Length: > 0 } rest && rest != "\uFFFD")
            {
                show(rest);
            }

            return written;
        }
    }
}
