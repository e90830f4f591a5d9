using System.Text.Json;
using ExactFlow.Tensors.Files;
using ExactFlow.Testing;

namespace ExactFlow.Cli.Tests;

/// <summary><c>exactflow convert</c> and <c>inspect</c>: formats, shards, model cards, and folders that do not fit.</summary>
public sealed class ConvertTests(TrainedFixture trained) : IClassFixture<TrainedFixture>
{
    [Fact]
    public void A_checkpoint_becomes_a_plain_folder_with_the_same_weights_and_a_card()
    {
        using var folder = new TemporaryFolder();
        CliProcess.Run(trained.Folder, ["convert", "--model", "runs/first", "--output", folder["plain"]]).ShouldSucceed();
        Assert.Equal(
            ["README.md", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json"],
            Directory.GetFiles(folder["plain"]).Select(file => Path.GetFileName(file)).Order(StringComparer.Ordinal));
        foreach (string name in (string[])["model.safetensors", "config.json", "tokenizer.json", "generation_config.json"])
        {
            Assert.Equal(File.ReadAllBytes(trained[$"runs/first/checkpoints/step-000020/{name}"]), File.ReadAllBytes(folder[$"plain/{name}"]));
        }

        string card = File.ReadAllText(folder["plain/README.md"]);
        foreach (string part in (string[])["# efla language model", "| steps | 20 of 20, seed 42 |", "| tokens | 1,280 (2 sequences of 32 a step) |", "`text.txt`", "nats per token", "\"sequence_length\": 32", "exactflow train --config recipe.json", "exactflow convert --model runs/first"])
        {
            Assert.Contains(part, card, StringComparison.Ordinal);
        }

        Assert.Equal(Generate(trained["runs/first"]), Generate(folder["plain"]));
    }

    [Fact]
    public void Shards_hold_the_same_weights_and_a_card_is_carried_on()
    {
        using var folder = new TemporaryFolder();
        CliProcess.Run(trained.Folder, ["convert", "--model", "runs/first", "--output", folder["shards"], "--shard-size", "0.00002"]).ShouldSucceed();
        JsonElement shards = Inspect(folder["shards"], "--check");
        Assert.True(shards.GetProperty("files").GetArrayLength() > 2);
        Assert.All(shards.GetProperty("files").EnumerateArray(), file => Assert.True(file.GetProperty("tensors").GetArrayLength() == 1 || file.GetProperty("tensors").EnumerateArray().Sum(tensor => tensor.GetProperty("bytes").GetInt64()) <= 20_000));
        CliProcess.Run(trained.Folder, ["convert", "--model", folder["shards"], "--output", folder["one"]]).ShouldSucceed();
        Assert.Equal(File.ReadAllBytes(trained["runs/first/checkpoints/step-000020/model.safetensors"]), File.ReadAllBytes(folder["one/model.safetensors"]));
        string card = File.ReadAllText(folder["one/README.md"]);
        Assert.Contains("## Training", card, StringComparison.Ordinal);
        Assert.Contains("## Conversion", card, StringComparison.Ordinal);
    }

    /// <summary>A card says what is known and what is not, beside whatever stood there.</summary>
    [Fact]
    public void Cards_of_folders_from_elsewhere_tell_the_rule_and_what_is_not_known()
    {
        using var folder = new TemporaryFolder();
        CliProcess.Run(trained.Folder, ["convert", "--model", "runs/first", "--output", folder["plain"]]).ShouldSucceed();
        File.Delete(folder["plain/README.md"]);
        CliProcess.Run(trained.Folder, ["convert", "--model", folder["plain"], "--output", folder["unknown"], "--dtype", "bfloat16"]).ShouldSucceed();
        string unknown = File.ReadAllText(folder["unknown/README.md"]);
        Assert.Contains("| rule | efla |", unknown, StringComparison.Ordinal);
        Assert.Contains("Text, tokens and losses are not known", unknown, StringComparison.Ordinal);
        File.WriteAllText(folder["plain/README.md"], "---\nlicense: mit\n---\n# Theirs\n");
        CliProcess.Run(trained.Folder, ["convert", "--model", folder["plain"], "--output", folder["theirs"]]).ShouldSucceed();
        string theirs = File.ReadAllText(folder["theirs/README.md"]);
        Assert.StartsWith("---\nlicense: mit\n---\n# Theirs\n\n## Conversion\n", theirs, StringComparison.Ordinal);
        Assert.Contains("| rule | efla |", theirs, StringComparison.Ordinal);
    }

    [Fact]
    public void What_goes_along_damaged_or_foreign_is_refused()
    {
        using var folder = new TemporaryFolder();
        CliProcess.Run(trained.Folder, ["convert", "--model", "runs/first", "--output", folder["plain"]]).ShouldSucceed();
        string tokenizer = File.ReadAllText(folder["plain/tokenizer.json"]);
        File.WriteAllText(folder["plain/tokenizer.json"], """{"model":{"type":"BPE","vocab":{"a":0,"b":1},"merges":[]}}""");
        Refused("has 2 tokens, but the vocabulary of the model beside it");
        File.WriteAllText(folder["plain/tokenizer.json"], tokenizer);
        File.WriteAllText(folder["plain/generation_config.json"], "{\n\"temperature\": }");
        Refused("plain/generation_config.json failed: it is not valid JSON (line 2, byte 15)");
        File.WriteAllText(folder["plain/config.json"], "{");
        Refused("plain/config.json failed: it is not valid JSON (line 1");

        void Refused(string expected)
        {
            CliProcess.Run(trained.Folder, ["convert", "--model", folder["plain"], "--output", folder["bad"]]).ShouldBeRefused(expected);
            Assert.Equal(["plain"], Directory.GetFileSystemEntries(folder.Path).Select(entry => Path.GetFileName(entry)));
        }
    }

    [Theory]
    [InlineData("float16", "F16")]
    [InlineData("bfloat16", "BF16")]
    public void Half_formats_round_every_value_to_the_nearest(string dtype, string name)
    {
        using var folder = new TemporaryFolder();
        CliProcess.Run(trained.Folder, ["convert", "--model", "runs/first", "--output", folder["half"], "--dtype", dtype]).ShouldSucceed();
        CliProcess.Run(trained.Folder, ["convert", "--model", folder["half"], "--output", folder["again"], "--dtype", dtype]).ShouldSucceed();
        Assert.Equal(File.ReadAllBytes(folder["half/model.safetensors"]), File.ReadAllBytes(folder["again/model.safetensors"]));
        using var exact = SafetensorsFile.Open(trained["runs/first/checkpoints/step-000020/model.safetensors"]);
        using var half = SafetensorsFile.Open(folder["half/model.safetensors"]);
        Assert.All(half.Entries, entry => Assert.Equal(name, entry.Type.ToString()));
        foreach (SafetensorsEntry entry in exact.Entries)
        {
            foreach ((float value, float rounded) in exact.Read<float>(entry.Name).Zip(half.Read<float>(entry.Name)))
            {
                // Half an ulp: 11 bits of mantissa or 8, and the fixed step of float16's subnormals.
                Assert.InRange(Math.Abs(value - rounded), 0, dtype == "float16" ? Math.Max(Math.Abs(value) / 2048, 3e-8) : Math.Abs(value) / 256);
            }
        }
    }

    [Fact]
    public void Inspect_lists_tensors_and_sizes()
    {
        JsonElement seen = Inspect(trained["runs/first"]);
        JsonElement tensors = seen.GetProperty("files")[0].GetProperty("tensors");
        Assert.Equal(seen.GetProperty("bytes").GetInt64(), tensors.EnumerateArray().Sum(tensor => tensor.GetProperty("bytes").GetInt64()));
        Assert.Equal("efla", seen.GetProperty("config").GetProperty("model_type").GetString());
        string text = CliProcess.Run(trained.Folder, ["inspect", "--model", "runs/first/checkpoints/step-000020/model.safetensors"]).ShouldSucceed().Output;
        Assert.Contains("model.layers.0.attn.q_proj.weight", text, StringComparison.Ordinal);
        Assert.Contains("[32, 32]", text, StringComparison.Ordinal);
        Assert.Contains("SHA-256", text, StringComparison.Ordinal);
    }

    [Fact]
    public void A_folder_that_does_not_fit_lists_every_difference_and_makes_nothing()
    {
        using var folder = new TemporaryFolder();
        CliProcess.Run(trained.Folder, ["convert", "--model", "runs/first", "--output", folder["plain"]]).ShouldSucceed();
        Rewrite(folder["plain/model.safetensors"]);
        foreach (string[] arguments in (string[][])[["convert", "--model", folder["plain"], "--output", folder["bad"]], ["inspect", "--model", folder["plain"], "--check"]])
        {
            CliProcess.Run(trained.Folder, arguments).ShouldBeRefused("model.norm.weight [32] is missing", "model.layers.0.attn.q_proj.weight is [16, 64] instead of [32, 32]", "extra.weight is not a tensor of this model");
        }

        Assert.Equal(["plain"], Directory.GetFileSystemEntries(folder.Path).Select(entry => Path.GetFileName(entry)));
        CliProcess.Run(trained.Folder, ["convert", "--model", "runs/first", "--output", folder["plain"]]).ShouldBeRefused("exists already");
    }

    /// <summary>Drops a tensor, adds one, and gives one another shape.</summary>
    private static void Rewrite(string path)
    {
        Dictionary<string, (long[] Shape, float[] Values)> tensors;
        using (var file = SafetensorsFile.Open(path))
        {
            tensors = file.Entries.ToDictionary(entry => entry.Name, entry => (entry.Shape.ToArray(), file.Read<float>(entry.Name)), StringComparer.Ordinal);
        }

        tensors.Remove("model.norm.weight");
        tensors["extra.weight"] = ([1], [1]);
        tensors["model.layers.0.attn.q_proj.weight"] = ([16, 64], tensors["model.layers.0.attn.q_proj.weight"].Values);
        using var writer = new SafetensorsWriter(path, tensors.Select(tensor => new SafetensorsEntry(tensor.Key, SafetensorsType.F32, tensor.Value.Shape)));
        foreach ((string name, (_, float[] values)) in tensors)
        {
            writer.Write<float>(name, values);
        }

        writer.Commit();
    }

    private string Generate(string model) => CliProcess.Run(trained.Folder, ["generate", "--model", model, "--prompt", "the", "--tokens", "8", "--temperature", "0"]).ShouldSucceed().Output;

    private JsonElement Inspect(string model, params string[] more)
    {
        using var document = JsonDocument.Parse(CliProcess.Run(trained.Folder, ["inspect", "--model", model, "--json", .. more]).ShouldSucceed().Output);
        return document.RootElement.Clone();
    }
}
