using System.Text.Json.Nodes;
using ExactFlow.Tensors;

namespace ExactFlow.Models;

/// <summary>
/// The shape of a language model: what config.json says. Immutable; vary it with <c>with</c>. Sizes are checked by <see cref="Validate"/>,
/// which every model calls on construction.
/// </summary>
public sealed record LanguageModelConfig
{
    /// <summary>What mixes tokens.</summary>
    public required MixerKind Mixer { get; init; }

    /// <summary>Tokens in the vocabulary (<c>vocab_size</c>).</summary>
    public required int VocabularySize { get; init; }

    /// <summary>Width of the residual stream (<c>hidden_size</c>).</summary>
    public required int HiddenSize { get; init; }

    /// <summary>Blocks (<c>num_hidden_layers</c>).</summary>
    public required int Layers { get; init; }

    /// <summary>Heads with a state of their own; query heads of softmax attention.</summary>
    public required int Heads { get; init; }

    /// <summary>
    /// Heads of the keys when fewer than <see cref="Heads"/>, 0 for as many. Query and key heads of the gated rules, B/C groups of Mamba-2,
    /// key and value heads of softmax attention.
    /// </summary>
    public int KeyHeads { get => field == 0 ? Heads : field; init; }

    /// <summary>K: width of a query or key head; the state size of Mamba-2.</summary>
    public required int KeyDim { get; init; }

    /// <summary>V: width of a value head.</summary>
    public required int ValueDim { get; init; }

    /// <summary>Tokens that the short convolutions see, the current one included (<c>conv_size</c>).</summary>
    public int ConvolutionWidth { get; init; } = 4;

    /// <summary>Whether RMSNorm(o) is multiplied by SiLU(W_g x) (<c>use_gate</c>). Always so in the gated rules.</summary>
    public bool OutputGate { get; init; }

    /// <summary>Whether the step size reaches 2 instead of 1 (<c>allow_neg_eigval</c>).</summary>
    public bool DoubleStepSize { get; init; }

    /// <summary>Whether keys are L2-normalised per head before a rule that takes them raw: the unit-key control of an experiment.</summary>
    public bool NormalizeKeys { get; init; }

    /// <summary>Whether the output head is the embedding table (<c>tie_word_embeddings</c>).</summary>
    public bool TieEmbeddings { get; init; }

    /// <summary>Epsilon of every RMSNorm (<c>norm_eps</c>).</summary>
    public double NormEpsilon { get; init; } = 1e-6;

    /// <summary>Inner width of the SwiGLU (<c>intermediate_size</c>), 0 for <see cref="DefaultInnerSize"/>. Not used by Mamba-2.</summary>
    public int InnerSize { get => field == 0 ? DefaultInnerSize(HiddenSize) : field; init; }

    /// <summary>Base of the rotary positions (<c>rope_theta</c>); softmax attention only.</summary>
    public double RopeTheta { get; init; } = 10_000;

    /// <summary>Standard deviation of initial weights (<c>initializer_range</c>).</summary>
    public double InitializerRange { get; init; } = 0.02;

    /// <summary>Standard deviation of the short convolutions' initial weights (<c>conv_initializer_range</c>), 0 for <see cref="InitializerRange"/>.</summary>
    public double ConvolutionInitializerRange { get => field == 0 ? InitializerRange : field; init; }

    /// <summary>The sequence length trained with (<c>max_position_embeddings</c>): information only, nothing depends on it.</summary>
    public int MaxPositions { get; init; } = 2048;

    /// <summary>The token that begins a text (<c>bos_token_id</c>), if there is one.</summary>
    public int? BeginToken { get; init; }

    /// <summary>The token that ends a text (<c>eos_token_id</c>), if there is one.</summary>
    public int? EndToken { get; init; }

    /// <summary>The token that fills rows (<c>pad_token_id</c>), if there is one.</summary>
    public int? PadToken { get; init; }

    /// <summary>Keys of a config.json that mean nothing here; written back unchanged.</summary>
    public JsonObject? OtherKeys { get; init; }

    /// <summary>The usual SwiGLU width: <c>int(hidden * 4 * 2/3)</c> rounded up to a multiple of 256.</summary>
    public static int DefaultInnerSize(int hiddenSize) => ((int)(hiddenSize * 8L / 3) + 255) / 256 * 256;

    /// <summary>
    /// The usual model of a mixer at a given size: heads of hidden / heads, the output gate for the gated rules;
    /// for Mamba-2 twice the layers, expansion 2, head width 64, state 128 and one group (smaller where the model is).
    /// </summary>
    /// <param name="mixer">What mixes tokens.</param>
    /// <param name="vocabularySize">Tokens in the vocabulary.</param>
    /// <param name="hiddenSize">Width of the residual stream.</param>
    /// <param name="layers">Blocks of a model with MLPs.</param>
    /// <param name="heads">Heads of a model with MLPs; must divide <paramref name="hiddenSize"/>.</param>
    public static LanguageModelConfig Create(MixerKind mixer, int vocabularySize, int hiddenSize, int layers, int heads)
    {
        ArgumentNullException.ThrowIfNull(mixer);
        if (heads < 1 || hiddenSize % heads != 0)
        {
            throw new InvalidInputException($"A model of width {hiddenSize} cannot be split into {heads} equal heads; choose a number of heads that divides the width.");
        }

        if (mixer.Family == MixerFamily.Mamba2)
        {
            int headDim = Math.Min(64, hiddenSize / heads);
            return new LanguageModelConfig
            {
                Mixer = mixer, VocabularySize = vocabularySize, HiddenSize = hiddenSize, Layers = 2 * layers,
                Heads = 2 * hiddenSize / headDim, KeyHeads = 1, KeyDim = Math.Min(128, hiddenSize), ValueDim = headDim,
            };
        }

        return new LanguageModelConfig
        {
            Mixer = mixer, VocabularySize = vocabularySize, HiddenSize = hiddenSize, Layers = layers,
            Heads = heads, KeyDim = hiddenSize / heads, ValueDim = hiddenSize / heads, OutputGate = mixer.Family == MixerFamily.Gated,
        };
    }

    /// <summary>Reads a config.json.</summary>
    /// <param name="json">The file's text.</param>
    /// <param name="file">Where it is, for messages.</param>
    /// <exception cref="InvalidInputException">Not JSON, a key missing or of the wrong kind, a feature that is not supported, or sizes that do not fit.</exception>
    public static LanguageModelConfig FromJson(string json, string file = ModelFolder.ConfigFile) => ConfigJson.Read(json, file);

    /// <summary>The text of a config.json; reading it gives this configuration again, unknown keys included.</summary>
    /// <exception cref="InvalidInputException">The configuration cannot be built.</exception>
    public string ToJson() => ConfigJson.Write(Validate());

    /// <summary>Whether both mean the same model: whether their files are the same.</summary>
    public bool Equals(LanguageModelConfig? other) => other is not null && ConfigJson.Write(this) == ConfigJson.Write(other);

    /// <inheritdoc/>
    public override int GetHashCode() => string.GetHashCode(ConfigJson.Write(this), StringComparison.Ordinal);

    /// <summary>Checks that a model of these sizes can be built. Returns the configuration.</summary>
    /// <exception cref="InvalidInputException">It cannot: one sentence says which size, its value and what it should be.</exception>
    public LanguageModelConfig Validate()
    {
        RequirePositive(VocabularySize, "vocab_size");
        RequirePositive(HiddenSize, "hidden_size");
        RequirePositive(Layers, "num_hidden_layers");
        RequirePositive(Heads, "the number of heads");
        RequirePositive(KeyHeads, "the number of key heads");
        RequirePositive(KeyDim, "the key width of a head");
        RequirePositive(ValueDim, "the value width of a head");
        RequirePositive(InnerSize, "intermediate_size");
        Require(ConvolutionWidth is >= 2 and <= 16, "the convolution width", ConvolutionWidth, "between 2 and 16");
        Require(NormEpsilon is > 0 and < 1, "norm_eps", NormEpsilon, "above 0 and below 1");
        Require(InitializerRange is > 0 and < 10, "initializer_range", InitializerRange, "above 0 and below 10");
        Require(ConvolutionInitializerRange is > 0 and < 10, "conv_initializer_range", ConvolutionInitializerRange, "above 0 and below 10");
        Require(Heads % KeyHeads == 0, "the number of heads", Heads, $"a multiple of the {KeyHeads} key heads");
        RequireToken(BeginToken, "bos_token_id");
        RequireToken(EndToken, "eos_token_id");
        RequireToken(PadToken, "pad_token_id");
        ValidateFamily();
        return this;
    }

    private void ValidateFamily()
    {
        switch (Mixer.Family)
        {
            case MixerFamily.Delta:
                Require(KeyHeads == Heads, "the number of key heads", KeyHeads, $"equal to the {Heads} heads for {Mixer}");
                break;
            case MixerFamily.Gated:
                Require(OutputGate, "use_gate", OutputGate, $"true for {Mixer}");
                break;
            case MixerFamily.Softmax:
                Require(KeyDim % 2 == 0, "the width of a head", KeyDim, "even, as rotary positions turn pairs");
                Require(KeyDim == ValueDim, "the value width of a head", ValueDim, $"equal to the key width {KeyDim} for {Mixer}");
                Require(RopeTheta > 0, "rope_theta", RopeTheta, "positive");
                break;
        }
    }

    private void RequirePositive(int value, string name) => Require(value > 0, name, value, "positive");

    private void RequireToken(int? token, string name)
        => Require(token is null || (token >= 0 && token < VocabularySize), name, token ?? 0, $"at least 0 and below the vocabulary's {VocabularySize}");

    private void Require<T>(bool holds, string name, T value, string expected)
    {
        if (!holds)
        {
            throw new InvalidInputException($"A model configuration for {Mixer} has {value} as {name}, which must be {expected}; correct the configuration.");
        }
    }
}
