using System.CommandLine;
using System.Globalization;
using ExactFlow.Cli.Display;
using ExactFlow.Cli.Parsing;
using ExactFlow.Models.Text;
using ExactFlow.Tensors;
using ExactFlow.Training.Packing;
using Spectre.Console;

namespace ExactFlow.Cli.Commands;

/// <summary><c>exactflow data inspect</c>: what a packed corpus holds, and whether it is whole.</summary>
internal static class DataInspectCommand
{
    private const int MostShownTokens = 4096;
    private const int WidthOfPipes = 160;

    /// <summary>Makes the command.</summary>
    public static Command Create()
    {
        Option<string> packed = Settings.Required("--packed", "folder that 'exactflow data pack' wrote", "DIR");
        Option<int?> document = Settings.OptionalWhole("--document", $"also show a document, counted from 0: its first {MostShownTokens} tokens as text", 0);
        var json = new Option<bool>("--json") { Description = "write one JSON document to standard output" };
        var command = new CliCommand("inspect", "Shows what a packed corpus holds, after reading all of it and checking every checksum.")
        {
            Examples =
            [
                ("exactflow data inspect --packed packed/books", "shards, documents, tokens, tokenizer"),
                ("exactflow data inspect --packed packed/books --document 3", "and the beginning of the fourth document"),
            ],
        };
        command.Options.Add(packed);
        command.Options.Add(document);
        command.Options.Add(json);
        command.SetAction(parsed =>
        {
            using PackedCorpus corpus = PackedCorpus.Open(parsed.GetRequiredValue(packed)).Verify();
            string? shown = parsed.GetValue(document) is { } index ? Show(corpus, index) : null;
            if (parsed.GetValue(json))
            {
                WriteJson(corpus, shown);
            }
            else
            {
                Write(corpus, shown);
            }
        });
        return command;
    }

    private static string Show(PackedCorpus corpus, int document)
    {
        if (document >= corpus.Documents)
        {
            throw new InvalidInputException($"Document {document} was asked for, but '{corpus.Folder}' holds {corpus.Documents}, counted from 0; ask for one of these.");
        }

        var ids = new int[Math.Min(MostShownTokens, corpus.Start(document + 1L) - corpus.Start(document))];
        corpus.Read(corpus.Start(document), ids);
        BytePairTokenizer tokenizer = corpus.LoadTokenizer();
        return tokenizer.Decode(ids);
    }

    private static void Write(PackedCorpus corpus, string? document)
    {
        Table table = new Table().Border(TableBorder.Simple).AddColumn("shard");
        foreach (string column in (string[])["documents", "tokens", "text", "bytes per token", "SHA-256"])
        {
            table.AddColumn(new TableColumn(column).RightAligned());
        }

        foreach (ManifestShard shard in corpus.Manifest.Shards)
        {
            table.AddRow(new Text(shard.File), new Text(Count(shard.Documents)), new Text(Count(shard.Tokens)), new Text(Units.Bytes(shard.TextBytes)), new Text(Ratio(shard.TextBytes, shard.Tokens)), new Text(shard.Checksum[..12]));
        }

        table.AddRow("all", Count(corpus.Documents), Count(corpus.Tokens), Units.Bytes(corpus.TextBytes), Ratio(corpus.TextBytes, corpus.Tokens), "");
        if (Console.IsOutputRedirected)
        {
            AnsiConsole.Profile.Width = WidthOfPipes;
        }

        AnsiConsole.Write(table);
        CorpusManifest manifest = corpus.Manifest;
        Console.WriteLine($"tokenizer: {Count(manifest.VocabularySize)} tokens, {corpus.Shards[0].Header.BytesPerToken} bytes each here, SHA-256 {manifest.TokenizerHash}; documents begin with {manifest.DocumentTokenText}");
        Console.WriteLine($"text: {Count(manifest.Sources.Count)} file{(manifest.Sources.Count == 1 ? "" : "s")}, the first of them {manifest.Sources[0].Path}");
        Console.WriteLine("every checksum is right");
        if (document is not null)
        {
            Console.WriteLine();
            Console.WriteLine(document);
        }
    }

    private static void WriteJson(PackedCorpus corpus, string? document) => JsonOutput.Write(new
    {
        corpus.Folder,
        corpus.Documents,
        corpus.Tokens,
        corpus.TextBytes,
        corpus.Manifest.TokenizerHash,
        corpus.Manifest.VocabularySize,
        corpus.Manifest.DocumentToken,
        corpus.Manifest.DocumentTokenText,
        corpus.Shards[0].Header.BytesPerToken,
        corpus.Manifest.Sources,
        corpus.Manifest.Shards,
        Text = document,
    });

    private static string Count(long value) => value.ToString("#,0", CultureInfo.InvariantCulture);

    private static string Ratio(long bytes, long tokens) => (bytes / (double)tokens).ToString("0.00", CultureInfo.InvariantCulture);
}
