using ExactFlow.Models;
using ExactFlow.Models.Text;
using ExactFlow.Tensors;
using ExactFlow.Training.Checkpoints;

namespace ExactFlow.Cli.Commands;

/// <summary>A model with its tokenizer, from a Hugging Face folder, a checkpoint, or the newest checkpoint of a run.</summary>
internal sealed class TrainedModel : IDisposable
{
    private const double LeastShareOfTokens = 0.75;

    private TrainedModel(string folder, BytePairTokenizer tokenizer, LanguageModel model)
    {
        Folder = folder;
        Tokenizer = tokenizer;
        Model = model;
    }

    /// <summary>The folder that the files came from.</summary>
    public string Folder { get; }

    /// <summary>The tokenizer.</summary>
    public BytePairTokenizer Tokenizer { get; }

    /// <summary>The model.</summary>
    public LanguageModel Model { get; }

    /// <summary>The token that texts begin with: the model's own, or the one that ends texts.</summary>
    public int? ContextToken => Model.Config.BeginToken ?? Model.Config.EndToken;

    /// <summary>Loads a model.</summary>
    /// <param name="device">Where it will live.</param>
    /// <param name="path">The folder, as given to <c>--model</c>.</param>
    /// <param name="precision">Number format to compute in, as given to <c>--precision</c>.</param>
    /// <exception cref="InvalidInputException">There is no model, it is damaged, or the device does not compute in that precision.</exception>
    public static TrainedModel Load(Device device, string path, string precision)
    {
        string folder = Locate(path);
        BytePairTokenizer tokenizer = BytePairTokenizer.Load(Path.Combine(folder, ModelFolder.TokenizerFile));
        LanguageModel model = ModelFolder.Load(device, folder, ModelPrecision.On(device, precision), mapped: true);
        try
        {
            RequireFit(tokenizer, model.Config, folder);
        }
        catch
        {
            model.Dispose();
            throw;
        }

        return new TrainedModel(folder, tokenizer, model);
    }

    /// <summary>Refuses a tokenizer that cannot be the one a model was trained with: it has more tokens, or far fewer (models often have some rows more than tokens, to have a round number).</summary>
    /// <exception cref="InvalidInputException">It does not belong to the model.</exception>
    public static void RequireFit(BytePairTokenizer tokenizer, LanguageModelConfig config, string folder)
    {
        if (tokenizer.VocabularySize > config.VocabularySize || tokenizer.VocabularySize < LeastShareOfTokens * config.VocabularySize)
        {
            throw new InvalidInputException(
                $"The tokenizer in '{folder}' has {tokenizer.VocabularySize} tokens, but the vocabulary of the model beside it {config.VocabularySize}: put the tokenizer there that the model was trained with.");
        }
    }

    /// <inheritdoc/>
    public void Dispose() => Model.Dispose();

    /// <summary>The folder that a path stands for: itself, or the newest checkpoint of a run.</summary>
    /// <exception cref="InvalidInputException">There is no model.</exception>
    public static string Locate(string path)
    {
        if (!Directory.Exists(path))
        {
            throw new InvalidInputException($"The model folder '{path}' does not exist: give a folder with config.json, a checkpoint or a run.");
        }

        if (File.Exists(Path.Combine(path, ModelFolder.ConfigFile)))
        {
            return path;
        }

        return new CheckpointStore(Path.Combine(path, "checkpoints")).FindNewest(Console.Error.WriteLine)
            ?? throw new InvalidInputException($"'{path}' holds no model: give a folder with {ModelFolder.ConfigFile}, a checkpoint, or a run that has one.");
    }
}
