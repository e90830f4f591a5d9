using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Files;
using ExactFlow.Testing;

namespace ExactFlow.Models.Tests;

public sealed class ModelFolderTests
{
    public static TheoryData<string> Models => TestModels.Names;

    [Theory]
    [MemberData(nameof(Models))]
    public void A_saved_model_comes_back_bit_for_bit(string name)
    {
        using var folder = new TemporaryFolder();
        using CpuDevice device = TestModels.Device();
        using var model = new LanguageModel(device, TestModels.Config(name), seed: 3);
        ModelFolder.Save(model, folder.Path);
        using LanguageModel loaded = ModelFolder.Load(device, folder.Path);
        Assert.Equal(model.Config, loaded.Config);
        foreach ((Parameter saved, Parameter read) in model.Parameters.Zip(loaded.Parameters))
        {
            Assert.Equal(saved.Name, read.Name);
            Assert.Equal(saved.Value.ToHost<float>(), read.Value.ToHost<float>());
        }
    }

    [Theory]
    [InlineData(SafetensorsType.F16)]
    [InlineData(SafetensorsType.BF16)]
    public void Half_precision_is_the_nearest(SafetensorsType format)
    {
        using var folder = new TemporaryFolder();
        using CpuDevice device = TestModels.Device();
        using var model = new LanguageModel(device, TestModels.Config("gated_efla"));
        Span<float> norm = model.Parameters.Single(parameter => parameter.Name == "model.norm.weight").Value.Span<float>();
        float[] special = [float.NaN, float.NegativeInfinity, -0f, 1 + (1 / 256f), 1 + (3 / 256f), 65_000, 1e-7f];
        special.CopyTo(norm);
        ModelFolder.Save(model, folder.Path, format: format);
        using LanguageModel loaded = ModelFolder.Load(device, folder.Path);
        foreach ((Parameter saved, Parameter read) in model.Parameters.Zip(loaded.Parameters))
        {
            Assert.Equal(Array.ConvertAll(saved.Value.ToHost<float>(), value => Rounded(value, format)), read.Value.ToHost<float>());
        }
    }

    [Fact]
    public void Files_hold_the_names_and_shapes_of_other_implementations()
    {
        using var folder = new TemporaryFolder();
        using CpuDevice device = TestModels.Device();
        Assert.Equal(
            [
                "lm_head.weight [29, 20]", "model.embeddings.weight [29, 20]",
                "model.layers.0.attn.A_log [2]", "model.layers.0.attn.a_proj.weight [2, 20]", "model.layers.0.attn.b_proj.weight [2, 20]", "model.layers.0.attn.dt_bias [2]",
                "model.layers.0.attn.g_proj.weight [10, 20]", "model.layers.0.attn.k_conv1d.weight [14, 1, 4]", "model.layers.0.attn.k_proj.weight [14, 20]",
                "model.layers.0.attn.o_norm.weight [5]", "model.layers.0.attn.o_proj.weight [20, 10]", "model.layers.0.attn.q_conv1d.weight [14, 1, 4]",
                "model.layers.0.attn.q_proj.weight [14, 20]", "model.layers.0.attn.v_conv1d.weight [10, 1, 4]", "model.layers.0.attn.v_proj.weight [10, 20]",
                "model.layers.0.attn_norm.weight [20]", "model.layers.0.mlp.down_proj.weight [20, 23]", "model.layers.0.mlp.gate_proj.weight [23, 20]",
                "model.layers.0.mlp.up_proj.weight [23, 20]", "model.layers.0.mlp_norm.weight [20]", "model.norm.weight [20]",
            ],
            SavedTensors(device, folder.Path, "gated_efla"));
        Assert.Equal(
            [
                "backbone.embeddings.weight [29, 20]", "backbone.layers.0.mixer.A_log [8]", "backbone.layers.0.mixer.D [8]", "backbone.layers.0.mixer.conv1d.bias [54]",
                "backbone.layers.0.mixer.conv1d.weight [54, 1, 4]", "backbone.layers.0.mixer.dt_bias [8]", "backbone.layers.0.mixer.in_proj.weight [102, 20]",
                "backbone.layers.0.mixer.norm.weight [40]", "backbone.layers.0.mixer.out_proj.weight [20, 40]", "backbone.layers.0.norm.weight [20]",
                "backbone.norm_f.weight [20]", "lm_head.weight [29, 20]",
            ],
            SavedTensors(device, folder.Path, "mamba2"));
    }

    [Fact]
    public void Shards_load_like_one_file()
    {
        using var folder = new TemporaryFolder();
        using CpuDevice device = TestModels.Device();
        using var model = new LanguageModel(device, TestModels.Config("efla"), seed: 9);
        ModelFolder.Save(model, folder.Path);
        Shard(folder.Path);
        using LanguageModel loaded = ModelFolder.Load(device, folder.Path);
        foreach ((Parameter saved, Parameter read) in model.Parameters.Zip(loaded.Parameters))
        {
            Assert.Equal(saved.Value.ToHost<float>(), read.Value.ToHost<float>());
        }
    }

    [Theory]
    [InlineData("""{ "weight_map": { "a": "../outside.safetensors" } }""", "plain name")]
    [InlineData("""{ "weight_map": { "a": 3 } }""", "plain name")]
    [InlineData("""{ "metadata": {} }""", "weight_map")]
    [InlineData("""{ "weight_map": { "a": "absent.safetensors" } }""", "absent.safetensors")]
    [InlineData("""{ "weight_map": {} }""", "is missing")]
    public void A_wrong_index_is_refused(string index, string expected)
    {
        using var folder = new TemporaryFolder();
        using CpuDevice device = TestModels.Device();
        File.WriteAllText(Path.Combine(folder.Path, ModelFolder.ConfigFile), TestModels.Config("efla").ToJson());
        File.WriteAllText(Path.Combine(folder.Path, ModelFolder.WeightsIndexFile), index);
        Assert.Contains(expected, Assert.Throws<InvalidInputException>(() => ModelFolder.Load(device, folder.Path)).Message, StringComparison.Ordinal);
        Assert.Equal(0, device.Pool.RentedBlocks);
    }

    [Fact]
    public void Every_difference_is_listed_and_nothing_is_loaded()
    {
        using var folder = new TemporaryFolder();
        using CpuDevice device = TestModels.Device();
        string path = Path.Combine(folder.Path, "weights.safetensors");
        using (var other = new LanguageModel(device, TestModels.Config("efla") with { OutputGate = true, HiddenSize = 21 }, seed: 1))
        {
            ModelWeights.Save(other, path);
        }

        using var model = new LanguageModel(device, TestModels.Config("gated_efla") with { Layers = 2 }, seed: 2);
        float[][] before = [.. model.Parameters.Select(parameter => parameter.Value.ToHost<float>())];
        string message = Assert.Throws<InvalidInputException>(() => ModelWeights.Load(model, path)).Message;
        Assert.Contains("model.embeddings.weight is [29, 21] instead of [29, 20]", message, StringComparison.Ordinal);
        Assert.Contains("model.layers.1.attn.A_log [2] is missing", message, StringComparison.Ordinal);
        Assert.Contains("lm_head.weight is [29, 21] instead of [29, 20]", message, StringComparison.Ordinal);
        Assert.Equal(before, model.Parameters.Select(parameter => parameter.Value.ToHost<float>()));

        using var smaller = new LanguageModel(device, TestModels.Config("deltanet") with { HiddenSize = 21, Layers = 1 });
        message = Assert.Throws<InvalidInputException>(() => ModelWeights.Load(smaller, path)).Message;
        Assert.Contains("model.layers.0.attn.g_proj.weight is not a tensor of this model", message, StringComparison.Ordinal);
        Assert.Contains("model.layers.1.mlp_norm.weight is not a tensor of this model", message, StringComparison.Ordinal);
        Assert.DoesNotContain("instead", message, StringComparison.Ordinal);
    }

    [Fact]
    public void Weights_that_are_not_numbers_of_a_float_format_are_refused()
    {
        using var folder = new TemporaryFolder();
        using CpuDevice device = TestModels.Device();
        using var model = new LanguageModel(device, TestModels.Config("efla"));
        string path = Path.Combine(folder.Path, "weights.safetensors");
        var entries = model.Layout.Parameters.Select(parameter => new SafetensorsEntry(parameter.Name, SafetensorsType.I32, [.. parameter.FileShape.ToArray().Select(extent => (long)extent)])).ToArray();
        using (var writer = new SafetensorsWriter(path, entries))
        {
            foreach (SafetensorsEntry entry in entries)
            {
                writer.Write<int>(entry.Name, new int[entry.Count]);
            }

            writer.Commit();
        }

        Assert.Contains("model.norm.weight holds I32", Assert.Throws<InvalidInputException>(() => ModelWeights.Load(model, path)).Message, StringComparison.Ordinal);
        Assert.Throws<InvalidInputException>(() => ModelWeights.Save(model, path, SafetensorsType.I64));
    }

    [Fact]
    public void A_folder_without_its_files_says_what_is_missing()
    {
        using var folder = new TemporaryFolder();
        using CpuDevice device = TestModels.Device();
        Assert.Contains("does not exist", Assert.Throws<InvalidInputException>(() => ModelFolder.Load(device, Path.Combine(folder.Path, "absent"))).Message, StringComparison.Ordinal);
        Assert.Contains(ModelFolder.ConfigFile, Assert.Throws<InvalidInputException>(() => ModelFolder.Load(device, folder.Path)).Message, StringComparison.Ordinal);
        File.WriteAllText(Path.Combine(folder.Path, ModelFolder.ConfigFile), TestModels.Config("efla").ToJson());
        Assert.Contains(ModelFolder.WeightsFile, Assert.Throws<InvalidInputException>(() => ModelFolder.Load(device, folder.Path)).Message, StringComparison.Ordinal);
        Assert.Equal(SamplerOptions.Greedy, ModelFolder.LoadGeneration(folder.Path).Sampling);
        Assert.Equal(0, device.Pool.RentedBlocks);
    }

    private static IEnumerable<string> SavedTensors(Device device, string folder, string name)
    {
        using var model = new LanguageModel(device, TestModels.Config(name) with { Layers = 1 });
        ModelFolder.Save(model, folder);
        using var file = SafetensorsFile.Open(Path.Combine(folder, ModelFolder.WeightsFile));
        Assert.Equal("pt", file.Metadata["format"]);
        return [.. file.Entries.Select(entry => $"{entry.Name} [{string.Join(", ", entry.Shape)}]").Order(StringComparer.Ordinal)];
    }

    /// <summary>Splits model.safetensors into two files, tensors alternating, with an index.</summary>
    private static void Shard(string folder)
    {
        string whole = Path.Combine(folder, ModelFolder.WeightsFile);
        var map = new List<string>();
        using (var file = SafetensorsFile.Open(whole))
        {
            for (int shard = 0; shard < 2; shard++)
            {
                string name = $"model-0000{shard + 1}-of-00002.safetensors";
                SafetensorsEntry[] entries = [.. file.Entries.Where((_, i) => i % 2 == shard)];
                using var writer = new SafetensorsWriter(Path.Combine(folder, name), entries);
                foreach (SafetensorsEntry entry in entries)
                {
                    writer.Write<float>(entry.Name, file.Read<float>(entry.Name));
                    map.Add($"\"{entry.Name}\": \"{name}\"");
                }

                writer.Commit();
            }
        }

        File.Delete(whole);
        File.WriteAllText(Path.Combine(folder, ModelFolder.WeightsIndexFile), $$"""{ "metadata": { "total_size": 1 }, "weight_map": { {{string.Join(", ", map)}} } }""");
    }

    private static float Rounded(float value, SafetensorsType format)
    {
        if (format == SafetensorsType.F16)
        {
            return (float)(Half)value;
        }

        if (!float.IsFinite(value) || value == 0)
        {
            return value;
        }

        // Eight bits of mantissa, nearest, ties to even, by arithmetic instead of bits.
        double unit = Math.ScaleB(1, Math.ILogB(value) - 7);
        return (float)(Math.Round(value / unit, MidpointRounding.ToEven) * unit);
    }
}
