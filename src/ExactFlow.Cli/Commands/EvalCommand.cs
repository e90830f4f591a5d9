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
    public static Command Create(CancellationToken cancellation)
    {
        Option<string> model = Settings.Required("--model", "folder of a model, a checkpoint or a run (its newest checkpoint)", "DIR");
        var text = new Option<string[]>("--text") { Description = "text to predict: files or folders", HelpName = "FILE|DIR", AllowMultipleArgumentsPerToken = true, Required = true };
        Option<int> window = Settings.Whole("--window", "tokens read at once; for softmax attention also the longest context, others carry their state over", 1024, 2, 1 << 24);
        var command = new CliCommand("eval", "Measures how well a model predicts a text: perplexity, and bits per byte, which compare between all models and with compressors.")
        {
            Examples =
            [
                ("exactflow eval --model runs/first --text book.txt", "one text"),
                ("exactflow eval --model runs/first --text books/ --json", "all texts of a folder, one after the other, for a script"),
            ],
        };
        command.Options.Add(model);
        command.Options.Add(text);
        command.Options.Add(window);
        CommonOptions common = CommonOptions.AddTo(command);
        command.SetAction(parsed =>
        {
            using CpuDevice device = common.Open(parsed);
            ReadOnlyMemory<byte> bytes = TextSource.Read(parsed.GetRequiredValue(text));
            using TrainedModel trained = TrainedModel.Load(device, parsed.GetRequiredValue(model));
            cancellation.ThrowIfCancellationRequested();
            long start = Stopwatch.GetTimestamp();
            int[] ids = trained.Tokenizer.EncodeLong(bytes, device.Workers.WorkerCount, recogniseSpecialTokens: false);
            TextScore score = new Evaluator(trained.Model, TokenizedText.CountBytes(trained.Tokenizer)).Score(ids, trained.ContextToken, parsed.GetRequiredValue(window));
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
