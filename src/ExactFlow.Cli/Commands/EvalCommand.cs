using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using ExactFlow.Cli.Display;
using ExactFlow.Cli.Parsing;
using ExactFlow.Tensors;
using ExactFlow.Training;
using ExactFlow.Training.Data;

namespace ExactFlow.Cli.Commands;

/// <summary><c>exactflow eval</c>: how well a model predicts a text.</summary>
internal static class EvalCommand
{
    /// <summary>Makes the command.</summary>
    public static Command Create()
    {
        Option<string> model = Settings.Required("--model", "folder of a model, a checkpoint or a run (its newest checkpoint)", "DIR");
        var text = new Option<string[]>("--text") { Description = "text to predict: files (text, JSON lines, Parquet) or folders", HelpName = "FILE|DIR", AllowMultipleArgumentsPerToken = true, Required = true };
        Option<string> field = Settings.Field();
        Option<int?> window = Settings.OptionalWhole("--window", "tokens of context at most: windows overlap by half and the second half of each is predicted; default: the length the model was trained on", 2, 1 << 24);
        var carry = new Option<bool>("--carry") { Description = "read the text once and carry the state all through it, beyond the length the model was trained on (not for softmax attention)" };
        Option<string> precision = Settings.Precision();
        var command = new CliCommand("eval", "Measures how well a model predicts a text: perplexity, and bits per byte, which compare between all models and with compressors.")
        {
            Examples =
            [
                ("exactflow eval --model runs/first --text book.txt", "one text"),
                ("exactflow eval --model runs/first --text books/ --json", "all texts of a folder, one after the other, for a script"),
                ("exactflow eval --model runs/first --text book.txt --carry", "how far a state trained on short texts carries"),
            ],
        };
        command.Options.Add(model);
        command.Options.Add(text);
        command.Options.Add(field);
        command.Options.Add(window);
        command.Options.Add(carry);
        command.Options.Add(precision);
        CommonOptions common = CommonOptions.AddTo(command);
        command.SetAction(parsed =>
        {
            using Device device = common.Open(parsed);
            ReadOnlyMemory<byte> bytes = TextSource.Read(parsed.GetRequiredValue(text), parsed.GetRequiredValue(field));
            using TrainedModel trained = TrainedModel.Load(device, parsed.GetRequiredValue(model), parsed.GetRequiredValue(precision));
            long start = Stopwatch.GetTimestamp();
            int[] ids = trained.Tokenizer.EncodeLong(bytes, parsed.GetRequiredValue(common.Threads), recogniseSpecialTokens: false);
            TextScore score = new Evaluator(trained.Model, TokenizedText.CountBytes(trained.Tokenizer))
                .Score(ids, trained.ContextToken, parsed.GetValue(window) ?? trained.Model.Config.MaxPositions, parsed.GetValue(carry));
            double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
            if (common.WantsJson(parsed))
            {
                JsonOutput.Write(new { score.Loss, score.Perplexity, score.BitsPerByte, score.BytePerplexity, score.Tokens, score.Bytes, Seconds = seconds });
                return;
            }

            Console.WriteLine(string.Create(
                CultureInfo.InvariantCulture,
                $"loss {score.Loss:0.0000} nats per token, perplexity {score.Perplexity:0.00}, {score.BitsPerByte:0.0000} bits per byte over {score.Tokens:#,0} tokens, {score.Bytes:#,0} bytes ({score.Tokens / seconds:#,0} tok/s)"));
        });
        return command;
    }
}
