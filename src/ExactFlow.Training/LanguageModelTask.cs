using ExactFlow.Models;
using ExactFlow.Models.Text;
using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Training.Options;

namespace ExactFlow.Training;

/// <summary>A language model as a <see cref="Trainer"/> sees it: next-token loss, validation on fixed windows, samples, Hugging Face folders as checkpoints.</summary>
public sealed class LanguageModelTask : ITrainingTask, IDisposable
{
    private readonly TokenizedText text;
    private readonly TrainingOptions options;
    private readonly Evaluator evaluator;
    private readonly string tokenizerJson;
    private readonly int[] prompt;

    /// <summary>Makes the model of a recipe with fresh weights.</summary>
    /// <param name="device">Where it lives.</param>
    /// <param name="options">The recipe.</param>
    /// <param name="text">The text, which decides the vocabulary.</param>
    /// <exception cref="InvalidInputException">The model's sizes do not fit together, or the rule is unknown.</exception>
    public LanguageModelTask(Device device, TrainingOptions options, TokenizedText text)
    {
        this.options = options ?? throw new ArgumentNullException(nameof(options));
        this.text = text ?? throw new ArgumentNullException(nameof(text));
        Model = new LanguageModel(device, Configure(options, text), (ulong)options.Seed, ModelPrecision.On(device, options.Model.Precision));
        if (options.Model.Weights is { } folder)
        {
            StartFrom(folder);
        }

        Model.Recompute(Enum.Parse<Recomputation>(options.Model.Recompute, ignoreCase: true), options.Model.RecomputeBlocks);
        evaluator = new Evaluator(Model, text.TokenBytes);
        tokenizerJson = text.TokenizerJson;
        prompt = [text.EndOfText, .. text.Tokenizer.Encode(options.Evaluation.Prompt, recogniseSpecialTokens: false)];
    }

    /// <summary>The model.</summary>
    public LanguageModel Model { get; }

    /// <inheritdoc/>
    public Device Device => Model.Device;

    /// <inheritdoc/>
    public IReadOnlyList<Parameter> Parameters => Model.Parameters;

    /// <inheritdoc/>
    public Tensor Loss(Tensor inputs, Tensor targets) => Model.Loss(inputs, targets);

    /// <inheritdoc/>
    public Tensor Loss(Tensor inputs, Tensor targets, SequenceOffsets documents) => Model.Loss(inputs, targets, documents);

    /// <summary>
    /// Three times the forward pass: 6 per number of every matrix that multiplies activations (the embedding table counts only where it is also the output
    /// head; norms, biases and convolutions not at all), and the mixers' own operations in their chunkwise form.
    /// </summary>
    public double FlopsPerToken(int sequenceLength) => 3 * Model.ForwardFlopsPerToken(sequenceLength);

    /// <inheritdoc/>
    public ValidationResult Validate()
    {
        TextScore score = evaluator.ScoreWindows(text.Validation, options.Evaluation.Windows, options.Data.BatchSize);
        return new ValidationResult(score.Loss, score.BitsPerByte);
    }

    /// <summary>Scores the whole validation text in sliding windows of the length trained on: the figure to report at the end.</summary>
    public TextScore ScoreValidationText() => evaluator.Score(text.ValidationIds, text.EndOfText, Math.Max(2, options.Data.SequenceLength), carryState: false);

    /// <inheritdoc/>
    public SampleText? Sample(int step)
    {
        var generation = new GenerationOptions
        {
            MaxTokens = options.Evaluation.SampleTokens,
            StopTokens = [text.EndOfText],
            Sampling = new SamplerOptions { Temperature = options.Evaluation.Temperature, TopK = 50, Seed = (ulong)options.Seed + (ulong)step },
        };
        int[] ids = [.. new Generator(Model).Stream(prompt, generation)];
        return new SampleText(options.Evaluation.Prompt, text.Tokenizer.Decode(ids, skipSpecialTokens: true));
    }

    /// <inheritdoc/>
    public void SaveModel(string folder) => ModelFolder.Save(Model, folder, tokenizerJson: tokenizerJson);

    /// <inheritdoc/>
    public void LoadModel(string folder) => ModelWeights.Load(Model, Path.Combine(folder, "model.safetensors"));

    /// <inheritdoc/>
    public void Dispose() => Model.Dispose();

    /// <summary>Takes the weights of a model folder. Tensors have the same names and shapes in several rules, which the configuration tells apart.</summary>
    private void StartFrom(string folder)
    {
        try
        {
            LanguageModelConfig there = ModelFolder.LoadConfig(folder), here = Model.Config;
            if (there.Mixer != here.Mixer || there.Heads != here.Heads || there.DoubleStepSize != here.DoubleStepSize || there.NormalizeKeys != here.NormalizeKeys)
            {
                throw new InvalidInputException(
                    $"The weights in '{folder}' (model.weights) are of {there.Mixer} with {there.Heads} heads, but the recipe asks for {here.Mixer} with {here.Heads}, or for other step sizes or keys: choose the recipe that fits them.");
            }

            RequireSameTokenizer(folder);
            ModelFolder.LoadWeights(Model, folder);
        }
        catch
        {
            Model.Dispose();
            throw;
        }
    }

    /// <summary>Equal sizes do not make equal vocabularies: the tokenizer beside the weights, if there is one, must have the tokens of the text's.</summary>
    private void RequireSameTokenizer(string folder)
    {
        string path = Path.Combine(folder, ModelFolder.TokenizerFile);
        if (!File.Exists(path))
        {
            return;
        }

        BytePairTokenizer there = BytePairTokenizer.Load(path), here = text.Tokenizer;
        int common = Math.Min(there.VocabularySize, here.VocabularySize);
        int first = Enumerable.Range(0, common).FirstOrDefault(id => there.TokenOf(id) != here.TokenOf(id), common);
        if (first < Math.Max(there.VocabularySize, here.VocabularySize))
        {
            string difference = first < common ? $"token {first} is '{there.TokenOf(first)}' there and '{here.TokenOf(first)}' here" : $"{there.VocabularySize} tokens there and {here.VocabularySize} here";
            throw new InvalidInputException(
                $"The weights in '{folder}' (model.weights) were trained with another tokenizer than the text has ({difference}): take theirs with data.tokenizer={path}, or pack the text with it.");
        }
    }

    private static LanguageModelConfig Configure(TrainingOptions options, TokenizedText text)
    {
        ModelOptions model = options.Model;
        return (LanguageModelConfig.Create(MixerKind.Parse(model.Rule), text.Tokenizer.VocabularySize, model.Hidden, model.Layers, model.Heads) with
        {
            TieEmbeddings = model.TieEmbeddings,
            ConvolutionInitializerRange = model.ConvolutionDeviation,
            MaxPositions = options.Data.SequenceLength,
            EndToken = text.EndOfText,
        }).Validate();
    }
}
