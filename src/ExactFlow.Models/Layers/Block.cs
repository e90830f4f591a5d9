using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;

namespace ExactFlow.Models.Layers;

/// <summary>A pre-norm residual block: x + mixer(norm(x)), then x + mlp(norm(x)). Mamba-2 blocks have no MLP.</summary>
/// <remarks>The last sum of a block is left to the next one, which computes it together with its norm: see <see cref="Residual"/>.</remarks>
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

    /// <summary>What the backward pass computes again.</summary>
    public Recomputation Recomputation { get; set; }

    /// <summary>[batch, time, hidden] to the same; see <see cref="Mixer.Forward"/>.</summary>
    internal Residual Forward(Residual x, SequenceOffsets? offsets, MixerState? state)
    {
        bool records = x.Device.CurrentStep is { RecordsGradients: true };
        if (records && Recomputation != Recomputation.Block)
        {
            return Layers(x, offsets, state, Recomputation);
        }

        // A part gives one tensor: the sum is computed inside. Without gradients a block leaves nothing but it, so that memory does not grow with the layers.
        Tensor start = x.Sum();
        Recomputed block = Recomputed.Run(start.Device, true, () => Layers(new Residual(start), offsets, state, Recomputation.None).Sum());
        if (!records)
        {
            start.Dispose();
        }

        return new Residual(block.Output);
    }

    private Residual Layers(Residual x, SequenceOffsets? offsets, MixerState? state, Recomputation recomputation)
    {
        bool recompute = recomputation != Recomputation.None;
        using (var input = new LayerInput(x, mixerNorm, epsilon, recompute))
        {
            Tensor mixed = Mixer.Forward(input, offsets, state, recompute);
            x = new Residual(input.Sum, mixed);
        }

        if (mlp is null)
        {
            return x;
        }

        using (var input = new LayerInput(x, mlpNorm!, epsilon, recompute))
        {
            Tensor output = mlp.Forward(input, recomputation);
            return new Residual(input.Sum, output);
        }
    }
}
