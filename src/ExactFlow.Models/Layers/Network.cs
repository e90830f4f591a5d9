using ExactFlow.Operators;
using ExactFlow.Tensors;

namespace ExactFlow.Models.Layers;

/// <summary>The layers of a language model and the names of their parameters, with or without memory.</summary>
internal sealed class Network
{
    private readonly LanguageModelConfig config;
    private readonly ModelParameter embeddings;
    private readonly Block[] blocks;
    private readonly ModelParameter norm;
    private readonly ModelParameter? head;

    public Network(LanguageModelConfig config)
    {
        this.config = config.Validate();
        bool isMamba = config.Mixer.Family == MixerFamily.Mamba2;
        string root = isMamba ? "backbone." : "model.";
        Initializer normal = Initializers.Normal(config.InitializerRange);
        embeddings = Layout.Add(root + "embeddings.weight", [config.VocabularySize, config.HiddenSize], normal);
        blocks = new Block[config.Layers];
        for (int i = 0; i < blocks.Length; i++)
        {
            blocks[i] = new Block(config, Layout, $"{root}layers.{i}.");
        }

        norm = Layout.AddNorm(root + (isMamba ? "norm_f.weight" : "norm.weight"), config.HiddenSize);
        head = config.TieEmbeddings ? null : Layout.Add("lm_head.weight", [config.VocabularySize, config.HiddenSize], normal);
    }

    /// <summary>Every parameter, in the order of files.</summary>
    public ParameterLayout Layout { get; } = new();

    public IReadOnlyList<Block> Blocks => blocks;

    /// <summary>The output head [vocab, hidden]: the embedding table when tied.</summary>
    public ModelParameter Head => head ?? embeddings;

    /// <summary>Numbers that take part in matrix products: all but an embedding table that is only looked up.</summary>
    public long MultipliedParameters => Layout.Count - (head is null ? 0 : embeddings.Shape.Count);

    public Tensor Forward(Tensor ids, SequenceOffsets? offsets, ModelState? state)
    {
        var x = new Residual(Embedding.Apply(ids, embeddings.Working));
        for (int i = 0; i < blocks.Length; i++)
        {
            x = blocks[i].Forward(x, offsets, state?.Layers[i]);
        }

        return x.Normalize(norm, (float)config.NormEpsilon, recompute: false, out _).Output;
    }
}
