using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using ExactFlow.Cli.Display;
using ExactFlow.Cli.Parsing;
using ExactFlow.Training.Packing;

namespace ExactFlow.Cli.Commands;

/// <summary><c>exactflow data pack</c>: a corpus to shards of tokens.</summary>
internal static class DataPackCommand
{
    private const double SecondsBetweenLines = 2;

    /// <summary>Makes the command.</summary>
    public static Command Create(Interruption interruption)
    {
        var text = new Option<string[]>("--text")
        {
            Description = "what to pack: files, folders, or patterns in quotation marks (*, ?, ** for folders); .txt, .md, .jsonl, .ndjson (.json, where named), each perhaps with .gz or .zst, and .parquet",
            HelpName = "FILE|DIR|PATTERN",
            AllowMultipleArgumentsPerToken = true,
            Required = true,
        };
        Option<string> tokenizer = Settings.Required("--tokenizer", "tokenizer.json, or a folder that holds one", "FILE|DIR");
        Option<string> output = Settings.Required("--output", "folder to write; after a stop or a crash, the same command goes on with it", "DIR");
        Option<string> field = Settings.Field();
        Option<string?> documentStart = Settings.Optional("--document-start", "a line of plain text that starts with this begins a document; without it, every file is one (cut at a line's end where it is longer than 4 MiB)", "TEXT");
        Option<string?> documentToken = Settings.Optional("--document-token", "special token that every document begins with; without it, <|endoftext|>, <s>, <|begin_of_text|> or <bos>, whichever the tokenizer has first", "TOKEN");
        Option<int> shardTokens = Settings.Whole("--shard-tokens", "tokens after which the next shard begins", (int)PackOptions.DefaultShardTokens, 1);
        Option<int> threads = Settings.Whole("--threads", "threads that encode; 0 = one per logical processor", 0, 0, 1024);
        var json = new Option<bool>("--json") { Description = "write one JSON document to standard output, and anything else to standard error" };
        var command = new CliCommand("pack", "Encodes a corpus into shards of tokens, on all cores and without ever holding it in memory. Ctrl-C stops; the same command goes on.")
        {
            Examples =
            [
                ("exactflow data pack --text books/ --tokenizer runs/first/tokenizer.json --output packed/books", "all texts of a folder"),
                ("exactflow data pack --text 'crawl/**/*.jsonl.gz' --field content --tokenizer tokenizer.json --output packed/crawl", "compressed JSON lines in folders of folders"),
                ("exactflow train --name packed --set data.packed=packed/books --set data.packing=documents", "train on it, no document seeing another"),
            ],
        };
        foreach (Option option in (Option[])[text, tokenizer, output, field, documentStart, documentToken, shardTokens, threads, json])
        {
            command.Options.Add(option);
        }

        command.SetAction(parsed => Run(
            new PackOptions
            {
                Text = parsed.GetRequiredValue(text),
                Tokenizer = parsed.GetRequiredValue(tokenizer),
                Output = parsed.GetRequiredValue(output),
                Field = parsed.GetRequiredValue(field),
                DocumentStart = parsed.GetValue(documentStart),
                DocumentToken = parsed.GetValue(documentToken),
                ShardTokens = parsed.GetRequiredValue(shardTokens),
                Threads = parsed.GetRequiredValue(threads),
            },
            parsed.GetValue(json),
            interruption.StopCleanly()));
        return command;
    }

    private static int Run(PackOptions options, bool wantsJson, CancellationToken stop)
    {
        TextWriter lines = wantsJson ? Console.Error : Console.Out;
        long start = Stopwatch.GetTimestamp(), lastLine = start;
        var packer = new CorpusPacker(options, progress =>
        {
            if (Stopwatch.GetElapsedTime(lastLine).TotalSeconds >= SecondsBetweenLines)
            {
                lastLine = Stopwatch.GetTimestamp();
                lines.WriteLine(string.Create(
                    CultureInfo.InvariantCulture,
                    $"file {progress.Files + 1}/{progress.TotalFiles} | {progress.Documents:#,0} documents | {progress.Tokens:#,0} tokens | {Units.Bytes(progress.TextBytes)} of text | {progress.File}"));
            }
        });
        if (packer.GoesOn)
        {
            lines.WriteLine($"going on in {options.Output}");
        }

        if (!packer.Run(stop))
        {
            lines.WriteLine($"stopped; the same command goes on with {options.Output}");
            return ExitCode.Interrupted;
        }

        double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
        using PackedCorpus corpus = PackedCorpus.Open(options.Output);
        if (wantsJson)
        {
            JsonOutput.Write(new { Folder = options.Output, Shards = corpus.Shards.Count, corpus.Documents, corpus.Tokens, corpus.TextBytes, corpus.Manifest.TokenizerHash, Seconds = seconds });
            return ExitCode.Success;
        }

        Console.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"{options.Output}: {corpus.Documents:#,0} documents, {corpus.Tokens:#,0} tokens, {Units.Bytes(corpus.TextBytes)} of text in {corpus.Shards.Count} shard{(corpus.Shards.Count == 1 ? "" : "s")} ({seconds:0.0} s)"));
        return ExitCode.Success;
    }
}
