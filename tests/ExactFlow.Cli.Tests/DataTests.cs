using System.IO.Compression;
using System.Text.Json;
using ExactFlow.Testing;

namespace ExactFlow.Cli.Tests;

/// <summary><c>exactflow data pack</c> and <c>inspect</c>, and training on what they make, from the outside.</summary>
public sealed class DataTests(TrainedFixture trained) : IClassFixture<TrainedFixture>
{
    [Fact]
    public void A_packed_text_can_be_inspected_and_trained_on()
    {
        using var folder = new TemporaryFolder();
        WriteLines(folder["text.jsonl"], 400);
        JsonElement packed = Json(Pack(folder, "--text", "text.jsonl", "--shard-tokens", "1500", "--json").ShouldSucceed());
        JsonElement seen = Json(Inspect(folder, "--document", "7", "--json").ShouldSucceed());
        foreach (string figure in (string[])["documents", "tokens", "text_bytes", "tokenizer_hash"])
        {
            Assert.Equal(packed.GetProperty(figure).ToString(), seen.GetProperty(figure).ToString());
        }

        Assert.Equal(400, seen.GetProperty("documents").GetInt32());
        Assert.Equal("<|endoftext|>" + Text(7), seen.GetProperty("text").GetString());
        Assert.Equal(packed.GetProperty("shards").GetInt32(), seen.GetProperty("shards").GetArrayLength());
        Assert.Contains("every checksum is right", Inspect(folder).ShouldSucceed().Output, StringComparison.Ordinal);

        CliResult training = CliProcess.Run(
            folder.Path, ["train", "--name", "packed", "--steps", "3", "--set", "data.packed=packed", "--set", "data.packing=documents", .. TinyText.Settings(), "--set", "data.validation_fraction=0.1"]).ShouldSucceed();
        Assert.Contains("packed corpus 'packed'", training.Output, StringComparison.Ordinal);
        CliProcess.Run(
            folder.Path, ["compare", "--name", "both", "--rules", "efla,deltanet", "--steps", "2", "--set", "training.data.packed=packed", .. TinyText.Settings("training.")]).ShouldSucceed();
        CliProcess.Run(folder.Path, ["generate", "--model", "runs/packed", "--prompt", "the", "--tokens", "3"]).ShouldSucceed();
    }

    [Fact]
    public void A_packing_that_was_killed_goes_on_to_the_same_files()
    {
        using var folder = new TemporaryFolder();
        Directory.CreateDirectory(folder["texts"]);
        for (int i = 0; i < 60; i++)
        {
            using var stream = new GZipStream(File.Create(folder[$"texts/{i:00}.jsonl.gz"]), CompressionLevel.Fastest);
            using var writer = new StreamWriter(stream);
            for (int line = 0; line < 3000; line++)
            {
                writer.WriteLine(Line((i * 3000) + line));
            }
        }

        string[] arguments = ["data", "pack", "--text", "texts/*.gz", "--tokenizer", trained["runs/first/tokenizer.json"], "--shard-tokens", "20000"];
        CliProcess.Run(folder.Path, [.. arguments, "--output", "packed"]).ShouldSucceed();
        using (CliProcess.Start(folder.Path, [.. arguments, "--output", "again"]))
        {
            Assert.True(SpinWait.SpinUntil(() => File.Exists(folder["again/shard-00003.tokens"]), TimeSpan.FromMinutes(1)));
        }

        Assert.False(File.Exists(folder["again/corpus.json"]), "The packing was over before it could be killed.");
        CliProcess.Run(folder.Path, ["data", "inspect", "--packed", "again"]).ShouldBeRefused("not finished", "the same 'exactflow data pack' command");
        Assert.Contains("going on", CliProcess.Run(folder.Path, [.. arguments, "--output", "again"]).ShouldSucceed().Output, StringComparison.Ordinal);
        Assert.Equal(Files(folder["packed"]), Files(folder["again"]));
    }

    [Fact]
    public void What_cannot_be_packed_is_refused_and_leaves_nothing()
    {
        using var folder = new TemporaryFolder();
        WriteLines(folder["text.jsonl"], 3);
        File.AppendAllText(folder["text.jsonl"], "{\"content\":\"x\"}\n");
        Pack(folder, "--text", "text.jsonl").ShouldBeRefused("text.jsonl", "line 4 has no field 'text'", "'content'", "--field");
        Pack(folder, "--text", "text.jsonl", "--tokenizer", "absent.json").ShouldBeRefused("absent.json");
        Pack(folder, "--text", "*.txt").ShouldBeRefused("No file matches '*.txt'");
        File.WriteAllText(folder["part.parquet"], "PAR1");
        Pack(folder, "--text", "part.parquet").ShouldBeRefused("part.parquet", "the Parquet file is damaged or cut off");
        File.WriteAllText(folder["part.jsonl.zst"], "zstd");
        Pack(folder, "--text", "part.jsonl.zst").ShouldBeRefused("part.jsonl.zst", "the Zstandard file is damaged or cut off");
        Pack(folder, "--text", "text.jsonl", "--shard-tokens", "0").ShouldBeRefused("--shard-tokens");
        Inspect(folder).ShouldBeRefused("no packed corpus in 'packed'");
        Assert.False(Directory.Exists(folder["packed"]));
    }

    [Fact]
    public void A_damaged_shard_is_refused_by_everything_that_reads_it()
    {
        using var folder = new TemporaryFolder();
        WriteLines(folder["text.jsonl"], 300);
        Pack(folder, "--text", "text.jsonl").ShouldSucceed();
        string shard = folder["packed/shard-00000.tokens"];
        byte[] whole = File.ReadAllBytes(shard);
        File.WriteAllBytes(shard, whole[..^100]);
        Inspect(folder).ShouldBeRefused("shard-00000.tokens", "cut off");
        Train().ShouldBeRefused("shard-00000.tokens", "cut off");
        whole[300] ^= 4;
        File.WriteAllBytes(shard, whole);
        Inspect(folder).ShouldBeRefused("shard-00000.tokens", "SHA-256");
        Train().ShouldBeRefused("shard-00000.tokens", "SHA-256");
        Assert.False(Directory.Exists(folder["runs/packed/checkpoints"]));

        CliResult Train() => CliProcess.Run(folder.Path, ["train", "--name", "packed", "--steps", "3", "--set", "data.packed=packed", .. TinyText.Settings()]);
    }

    private static CliResult Inspect(TemporaryFolder folder, params string[] more) => CliProcess.Run(folder.Path, ["data", "inspect", "--packed", "packed", .. more]);

    private static JsonElement Json(CliResult result)
    {
        using var document = JsonDocument.Parse(result.Output);
        return document.RootElement.Clone();
    }

    private static string Text(int index) => $"the flow of a state number {index} is exact and every key {index * 7919} decays with its norm";

    private static string Line(int index) => JsonSerializer.Serialize(new { id = index, text = Text(index) });

    private static void WriteLines(string path, int count) => File.WriteAllLines(path, Enumerable.Range(0, count).Select(Line));

    private static Dictionary<string, byte[]> Files(string folder) => Directory.GetFiles(folder).ToDictionary(file => Path.GetFileName(file), File.ReadAllBytes, StringComparer.Ordinal);

    private CliResult Pack(TemporaryFolder folder, params string[] arguments)
        => CliProcess.Run(folder.Path, ["data", "pack", "--output", "packed", .. arguments, .. arguments.Contains("--tokenizer") ? Array.Empty<string>() : ["--tokenizer", trained["runs/first/tokenizer.json"]]]);
}
