using ExactFlow.Operators;
using ExactFlow.Tensors;

namespace ExactFlow.Models.Layers;

/// <summary>A layer that lets tokens see those before them.</summary>
public abstract class Mixer
{
    /// <summary>Makes the layer of a configuration, declaring its parameters.</summary>
    /// <param name="config">The model's configuration.</param>
    /// <param name="layout">Receives the parameters.</param>
    /// <param name="prefix">Beginning of the parameters' names, such as <c>model.layers.0.attn.</c></param>
    public static Mixer Create(LanguageModelConfig config, ParameterLayout layout, string prefix)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Mixer.Family switch
        {
            MixerFamily.Mamba2 => new Mamba2Mixer(config, layout, prefix),
            MixerFamily.Softmax => new SoftmaxAttentionMixer(config, layout, prefix),
            _ => new DeltaMixer(config, layout, prefix),
        };
    }

    /// <summary>Mixes tokens.</summary>
    /// <param name="x">[batch, time, hidden], normalised; projected once and given up.</param>
    /// <param name="offsets">Documents of a packed row (batch 1); none sees another.</param>
    /// <param name="state">What the tokens before <paramref name="x"/> left, updated in place: a sequence per row, or per document of a packed row. Null to start from nothing.</param>
    /// <param name="recompute">Whether the backward pass computes again what lies between the projections, where that is cheap.</param>
    /// <returns>[batch, time, hidden].</returns>
    public abstract Tensor Forward(LayerInput x, SequenceOffsets? offsets, MixerState? state, bool recompute = false);

    /// <summary>The state before the first token, for decoding; the caller disposes it.</summary>
    /// <param name="device">Where it lives.</param>
    /// <param name="sequences">Sequences decoded together.</param>
    /// <param name="precision">Number format of the model's activations.</param>
    public abstract MixerState CreateState(Device device, int sequences, DType precision);

    /// <summary>Floating-point operations per token of mixing itself, without the projections, when <paramref name="length"/> tokens are processed forward.</summary>
    public abstract double FlopsPerToken(int length);
}
