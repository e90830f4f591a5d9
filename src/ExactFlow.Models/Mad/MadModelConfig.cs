using ExactFlow.Tensors;

namespace ExactFlow.Models.Mad;

/// <summary>The small models of MAD (arXiv 2403.17844): a token embedding, blocks of a mixer and a SwiGLU with LayerNorm before each, no positions.</summary>
public sealed record MadModelConfig
{
    /// <summary>What mixes tokens.</summary>
    public required MadMixer Mixer { get; init; }

    /// <summary>Tokens in the vocabulary.</summary>
    public required int Vocabulary { get; init; }

    /// <summary>Width of the residual stream.</summary>
    public int Width { get; init; } = 128;

    /// <summary>Blocks, each of a mixer and an MLP.</summary>
    public int Layers { get; init; } = 2;

    /// <summary>Heads of the mixer; each is width / heads wide.</summary>
    public int Heads { get; init; } = 8;

    /// <summary>Epsilon of every norm.</summary>
    public float NormEpsilon { get; init; } = 1e-5f;

    /// <summary>The width inside the SwiGLU: <c>int(2 * width * 4 / 3)</c> rounded up to a multiple of 16.</summary>
    public int InnerSize => ((2 * Width * 4 / 3) + 15) / 16 * 16;

    /// <summary>Multiplications and additions of a forward pass for each token, to compare trainings with: products with matrices, and softmax attention's with what came before.</summary>
    /// <param name="length">Tokens of a sequence.</param>
    public double OperationsPerToken(int length)
    {
        double mixing = Mixer.Kind == MixerKind.SoftmaxAttention ? 2.0 * Width * length : 0;
        return (Layers * (mixing + (2.0 * Width * ((4 * Width) + (3 * InnerSize))))) + (2.0 * Width * Vocabulary);
    }

    /// <summary>Checks that such a model can be built.</summary>
    /// <exception cref="InvalidInputException">It cannot; the sentence says why.</exception>
    public void Validate() => ForMixer();

    /// <summary>
    /// The mixer's part, as language models describe it. Mamba-2 has expansion 2, heads as wide as those of the others, twice as many, one group and a state as
    /// wide as a head. Convolutions begin at U(+-1/2) as in the models' own implementations, matrices at N(0, 0.02).
    /// </summary>
    /// <exception cref="InvalidInputException">Such a mixer cannot be built.</exception>
    internal LanguageModelConfig ForMixer()
    {
        LanguageModelConfig config = LanguageModelConfig.Create(Mixer.Kind, Vocabulary, Width, Layers, Heads) with
        {
            InnerSize = InnerSize,
            ConvolutionInitializerRange = 1 / Math.Sqrt(12),
            DoubleStepSize = Mixer.DoubleStepSize,
            NormalizeKeys = Mixer.NormalizeKeys,
        };
        if (Mixer.Kind.Family == MixerFamily.Mamba2)
        {
            config = config with { KeyDim = Width / Heads, ValueDim = Width / Heads, Heads = 2 * Heads };
        }

        return config.Validate();
    }
}
