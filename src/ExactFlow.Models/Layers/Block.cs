using ExactFlow.Operators;
using ExactFlow.Tensors;

namespace ExactFlow.Models.Layers;

/// <summary>A pre-norm residual block: x + mixer(norm(x)), then x + mlp(norm(x)). Mamba-2 blocks have no MLP.</summary>
public sealed class Block
{
    private readonly float epsilon;
    private readonly ModelParameter mixerNorm;
    private readonly ModelParameter? mlpNorm;
    private readonly SwiGluMlp? mlp;

    internal Block(LanguageModelConfig config, ParameterLayout layout, string prefix)
    {
        bool isMamba = config.Mixer.Family == MixerFamily.Mamba2;
        epsilon = (float)config.NormEpsilon;
        mixerNorm = layout.AddNorm(prefix + (isMamba ? "norm.weight" : "attn_norm.weight"), config.HiddenSize);
        Mixer = Mixer.Create(config, layout, prefix + (isMamba ? "mixer." : "attn."));
        if (!isMamba)
        {
            mlpNorm = layout.AddNorm(prefix + "mlp_norm.weight", config.HiddenSize);
            mlp = new SwiGluMlp(config, layout, prefix + "mlp.");
        }
    }

    /// <summary>What mixes tokens here.</summary>
    public Mixer Mixer { get; }

    /// <summary>[batch, time, hidden] to the same; see <see cref="Mixer.Forward"/>.</summary>
    public Tensor Forward(Tensor x, SequenceOffsets? offsets, MixerState? state)
    {
        Tensor mixed = Mixer.Forward(RmsNorm.Apply(x, mixerNorm.Value, epsilon), offsets, state);
        if (mlp is null)
        {
            return Elementwise.Add(x, mixed);
        }

        (Tensor sum, Tensor normalized) = RmsNorm.ApplyAfterAdd(x, mixed, mlpNorm!.Value, epsilon);
        return Elementwise.Add(sum, mlp.Forward(normalized));
    }
}
