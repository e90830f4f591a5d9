using System.Text.Json.Nodes;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Files;

namespace ExactFlow.Models;

/// <summary>
/// A model as a Hugging Face folder: config.json, generation_config.json, tokenizer.json, and model.safetensors or its shards with
/// model.safetensors.index.json.
/// </summary>
public static class ModelFolder
{
    /// <summary>Name of the configuration.</summary>
    public const string ConfigFile = "config.json";

    /// <summary>Name of the defaults of generation.</summary>
    public const string GenerationFile = "generation_config.json";

    /// <summary>Name of the tokenizer.</summary>
    public const string TokenizerFile = "tokenizer.json";

    /// <summary>Name of the weights in one file.</summary>
    public const string WeightsFile = "model.safetensors";

    /// <summary>Name of the index of weights in several files.</summary>
    public const string WeightsIndexFile = "model.safetensors.index.json";

    /// <summary>Writes a model; every file appears whole or not at all, the weights last.</summary>
    /// <param name="model">The model.</param>
    /// <param name="folder">The folder, made if it does not exist.</param>
    /// <param name="generation">Defaults of generation; null leaves only the special tokens.</param>
    /// <param name="tokenizerJson">Text of a tokenizer.json to put beside it; null for none.</param>
    /// <param name="format">Number format of the weights: F32, F16 or BF16.</param>
    /// <param name="shardBytes">Bytes of weights in a file at most; 0 for one file.</param>
    /// <exception cref="InvalidInputException">The folder cannot be written.</exception>
    public static void Save(LanguageModel model, string folder, GenerationOptions? generation = null, string? tokenizerJson = null, SafetensorsType format = SafetensorsType.F32, long shardBytes = 0)
    {
        ArgumentNullException.ThrowIfNull(model);
        try
        {
            Directory.CreateDirectory(folder);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw new InvalidInputException($"Making the model folder '{folder}' failed: {exception.Message.TrimEnd('.')}; choose another place.", exception);
        }

        AtomicFile.WriteAllText(Path.Combine(folder, ConfigFile), model.Config.ToJson());
        AtomicFile.WriteAllText(Path.Combine(folder, GenerationFile), GenerationConfig.ToJson(generation ?? new GenerationOptions(), model.Config));
        if (tokenizerJson is not null)
        {
            AtomicFile.WriteAllText(Path.Combine(folder, TokenizerFile), tokenizerJson);
        }

        if (shardBytes > 0)
        {
            ModelWeights.SaveSharded(model, folder, shardBytes, format);
        }
        else
        {
            ModelWeights.Save(model, Path.Combine(folder, WeightsFile), format);
        }
    }

    /// <summary>Reads a model: configuration and weights. The caller disposes it.</summary>
    /// <param name="device">Where it will live.</param>
    /// <param name="folder">The folder.</param>
    /// <param name="precision">Number format to compute in: float32, or bfloat16 on a GPU.</param>
    /// <param name="mapped">
    /// Whether float32 weights may stay in their file, mapped into memory, where the device is the CPU: the model is there at once, without a copy. For models that are
    /// only used; <see cref="SafetensorsMapping"/> says what must not happen to the file meanwhile. Other formats are read and converted all the same.
    /// </param>
    /// <exception cref="InvalidInputException">A file is missing or damaged, or the weights are not exactly those of the configuration.</exception>
    public static LanguageModel Load(Device device, string folder, DType precision = DType.Float32, bool mapped = false)
    {
        LanguageModelConfig config = LoadConfig(folder);
        using WeightSource weights = OpenWeights(folder);
        return new LanguageModel(device, config, precision, layout => weights.Supply(layout, device, config, mapped));
    }

    /// <summary>Reads the weights of a folder into a model that is there already, whatever the folder's configuration says besides the tensors.</summary>
    /// <exception cref="InvalidInputException">A file is missing or damaged, or the weights are not exactly those of the model; then nothing was changed.</exception>
    public static void LoadWeights(LanguageModel model, string folder)
    {
        using WeightSource weights = OpenWeights(folder);
        weights.ReadInto(model);
    }

    /// <summary>The files that hold the weights of a folder, in the order of their names.</summary>
    /// <exception cref="InvalidInputException">There are none, or the index is damaged.</exception>
    public static IReadOnlyList<string> WeightFiles(string folder)
    {
        string single = Path.Combine(folder, WeightsFile), index = Path.Combine(folder, WeightsIndexFile);
        return File.Exists(single) ? [single]
            : File.Exists(index) ? [.. WeightSource.ShardNames(index).Select(name => Path.Combine(folder, name))]
            : throw NoWeights(folder);
    }

    /// <summary>Reads the configuration only.</summary>
    /// <exception cref="InvalidInputException">Missing, damaged, or a model that is not supported.</exception>
    public static LanguageModelConfig LoadConfig(string folder)
    {
        ArgumentException.ThrowIfNullOrEmpty(folder);
        string file = Path.Combine(folder, ConfigFile);
        return Directory.Exists(folder)
            ? LanguageModelConfig.FromJson(TextFile.Read(file), file)
            : throw new InvalidInputException($"The model folder '{folder}' does not exist; check the name.");
    }

    /// <summary>Reads the configuration as it is, of whatever model; <c>Infinity</c> and <c>NaN</c>, which Python writes there, as strings.</summary>
    /// <exception cref="InvalidInputException">Missing, or no JSON object.</exception>
    public static JsonObject ReadConfig(string folder)
    {
        ArgumentException.ThrowIfNullOrEmpty(folder);
        string file = Path.Combine(folder, ConfigFile);
        return JsonFields.ParsePlain(TextFile.Read(file), file);
    }

    /// <summary>Reads the defaults of generation: those of the file, or greedy up to the model's end token without one.</summary>
    /// <exception cref="InvalidInputException">Damaged.</exception>
    public static GenerationOptions LoadGeneration(string folder)
    {
        string path = Path.Combine(folder, GenerationFile);
        if (File.Exists(path))
        {
            return GenerationConfig.FromJson(TextFile.Read(path), path);
        }

        LanguageModelConfig config = LoadConfig(folder);
        return new GenerationOptions { StopTokens = config.EndToken is { } end ? [end] : [], Sampling = SamplerOptions.Greedy };
    }

    private static WeightSource OpenWeights(string folder)
    {
        string single = Path.Combine(folder, WeightsFile), index = Path.Combine(folder, WeightsIndexFile);
        return File.Exists(single) ? WeightSource.Open(single)
            : File.Exists(index) ? WeightSource.OpenSharded(index)
            : throw NoWeights(folder);
    }

    private static InvalidInputException NoWeights(string folder)
        => new($"The model folder '{folder}' has neither {WeightsFile} nor {WeightsIndexFile}; put the weights there.");
}
