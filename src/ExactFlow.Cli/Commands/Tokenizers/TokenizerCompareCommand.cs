using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using ExactFlow.Cli.Display;
using ExactFlow.Cli.Parsing;
using ExactFlow.Models.Text;
using ExactFlow.Tensors;
using ExactFlow.Training.Data;

namespace ExactFlow.Cli.Commands.Tokenizers;

/// <summary><c>exactflow tokenizer compare</c>: several tokenizers on one text, or one tokenizer and encodings made elsewhere.</summary>
internal static class TokenizerCompareCommand
{
    /// <summary>Timed encodings of the text, after one that warms up; the best counts.</summary>
    private const int Turns = 3;

    /// <summary>Makes the command.</summary>
    public static Command Create()
    {
        var tokenizers = new Argument<string[]>("TOKENIZERS") { Description = "tokenizer.json files or folders", Arity = ArgumentArity.OneOrMore };
        Option<string[]> text = TokenizerOptions.Text("text to encode with each: files or folders", isRequired: false);
        Option<string> field = Settings.Field();
        Option<string?> reference = Settings.Optional("--reference", "encodings made elsewhere: JSON lines with 'text' and 'ids' (and perhaps 'decoded')", "FILE");
        Option<int> threads = TokenizerOptions.Threads();
        Option<bool> json = TokenizerOptions.Json();
        var command = new CliCommand("compare", "Compares tokenizers on a text (tokens, bytes per token, speed, whether the text comes back), or with encodings made elsewhere.")
        {
            Examples =
            [
                ("exactflow tokenizer compare gpt2/ tokenizer.json --text book.txt", "which needs fewer tokens"),
                ("exactflow tokenizer compare tokenizer.json --reference encodings.jsonl", "whether all ids are those of another implementation; exit code 2 if not"),
            ],
        };
        command.Arguments.Add(tokenizers);
        command.Options.Add(text);
        command.Options.Add(field);
        command.Options.Add(reference);
        command.Options.Add(threads);
        command.Options.Add(json);
        command.SetAction(parsed =>
        {
            string[] paths = parsed.GetRequiredValue(tokenizers);
            if (parsed.GetValue(reference) is { } file)
            {
                foreach (string path in paths)
                {
                    CompareWithReference(BytePairTokenizer.Load(path), path, file);
                }

                return;
            }

            if (parsed.GetValue(text) is not { Length: > 0 } files)
            {
                throw new InvalidInputException("Comparing tokenizers needs --text to encode with each, or --reference with encodings made elsewhere; name one.");
            }

            ReadOnlyMemory<byte> bytes = TextSource.Read(files, parsed.GetRequiredValue(field));
            Row[] rows = [.. paths.Select(path => Measure(path, bytes, parsed.GetRequiredValue(threads)))];
            if (parsed.GetValue(json))
            {
                JsonOutput.Write(rows);
                return;
            }

            Console.WriteLine($"{"vocabulary",12}{"tokens",14}{"bytes/token",13}{"MB/s",8}  comes back  tokenizer");
            foreach (Row row in rows)
            {
                Console.WriteLine(string.Create(
                    CultureInfo.InvariantCulture,
                    $"{row.VocabularySize,12:#,0}{row.Tokens,14:#,0}{row.BytesPerToken,13:0.000}{row.MegabytesPerSecond,8:0.0}  {(row.ComesBack ? "yes" : "no"),-10}  {row.Path}"));
            }
        });
        return command;
    }

    private static Row Measure(string path, ReadOnlyMemory<byte> text, int threads)
    {
        BytePairTokenizer tokenizer = BytePairTokenizer.Load(path);
        int[] ids = tokenizer.EncodeLong(text, threads, recogniseSpecialTokens: false);
        double seconds = double.MaxValue, processorSeconds = double.MaxValue;
        for (int turn = 0; turn < Turns; turn++)
        {
            TimeSpan used = Environment.CpuUsage.TotalTime;
            long start = Stopwatch.GetTimestamp();
            ids = tokenizer.EncodeLong(text, threads, recogniseSpecialTokens: false);
            seconds = Math.Min(seconds, Stopwatch.GetElapsedTime(start).TotalSeconds);
            processorSeconds = Math.Min(processorSeconds, (Environment.CpuUsage.TotalTime - used).TotalSeconds);
        }

        return new Row(
            path, tokenizer.VocabularySize, ids.Length, (double)text.Length / Math.Max(1, ids.Length), text.Length / 1e6 / seconds,
            processorSeconds > 0 ? text.Length / 1e6 / processorSeconds : null, tokenizer.DecodeBytes(ids).AsSpan().SequenceEqual(text.Span));
    }

    private static void CompareWithReference(BytePairTokenizer tokenizer, string path, string file)
    {
        int texts = 0, different = 0;
        string first = "";
        foreach (string line in ReadLines(file))
        {
            texts++;
            (string text, int[] expected, string? decoded) = Parse(line, file, texts);
            int[] bare = tokenizer.Encode(text);
            int[] ids = [.. tokenizer.Surrounding.Before, .. bare, .. tokenizer.Surrounding.After];
            bool agrees = (expected.AsSpan().SequenceEqual(ids) || expected.AsSpan().SequenceEqual(bare)) && (decoded is null || tokenizer.Decode(expected, skipSpecialTokens: true) == decoded);
            if (!agrees && different++ == 0)
            {
                first = $"the first in line {texts}: '{text}' gives {string.Join(' ', ids)}, there it is {string.Join(' ', expected)}";
            }
        }

        if (different > 0)
        {
            throw new InvalidInputException($"Tokenizer '{path}' disagrees with {different} of {texts} encodings in '{file}', {first}; take the tokenizer they were made with.");
        }

        Console.WriteLine($"{path}: all {texts} encodings agree");
    }

    private static IEnumerable<string> ReadLines(string file)
    {
        try
        {
            return File.ReadAllLines(file).Where(line => line.Length > 0);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new InvalidInputException($"Cannot read the encodings '{file}': {exception.Message.TrimEnd('.')}; check the name.", exception);
        }
    }

    private static (string Text, int[] Ids, string? Decoded) Parse(string line, string file, int number)
    {
        try
        {
            using JsonDocument row = JsonDocument.Parse(line);
            JsonElement root = row.RootElement;
            return (
                root.GetProperty("text").GetString()!,
                [.. root.GetProperty("ids").EnumerateArray().Select(id => id.GetInt32())],
                root.TryGetProperty("decoded", out JsonElement decoded) ? decoded.GetString() : null);
        }
        catch (Exception exception) when (exception is JsonException or InvalidOperationException or KeyNotFoundException or FormatException)
        {
            throw new InvalidInputException($"Line {number} of '{file}' is no JSON object with 'text' and a list of 'ids'; give one such object a line.", exception);
        }
    }

    /// <summary>What is told of a tokenizer. A text too short for the system's clock has no rate per second of processor time.</summary>
    private sealed record Row(string Path, int VocabularySize, int Tokens, double BytesPerToken, double MegabytesPerSecond, double? MegabytesPerProcessorSecond, bool ComesBack);
}
