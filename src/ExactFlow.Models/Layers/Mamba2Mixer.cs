using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;

namespace ExactFlow.Models.Layers;

/// <summary>
/// Mamba-2 (arXiv 2405.21060) as a member of the family: q is C, k is B, v is x, beta is dt, log_decay is -dt exp(A_log), scale 1.
/// in_proj gives [z, xBC, dt]; xBC = SiLU(conv(xBC) + bias); dt = softplus(dt + dt_bias); y = scan + D x; RMSNorm(y SiLU(z)); out_proj.
/// </summary>
public sealed class Mamba2Mixer : Mixer
{
    private readonly LanguageModelConfig config;
    private readonly ModelParameter input;
    private readonly ModelParameter convolution;
    private readonly ModelParameter convolutionBias;
    private readonly ModelParameter timeStepBias;
    private readonly ModelParameter rate;
    private readonly ModelParameter skip;
    private readonly ModelParameter norm;
    private readonly ModelParameter output;

    internal Mamba2Mixer(LanguageModelConfig config, ParameterLayout layout, string prefix)
    {
        this.config = config;
        Initializer normal = Initializers.Normal(config.InitializerRange);
        Initializer convolutionStart = Initializers.Uniform(1 / Math.Sqrt(config.ConvolutionWidth));
        rate = layout.Add(prefix + "A_log", [config.Heads], Initializers.MambaRate, weightDecay: false);
        skip = layout.Add(prefix + "D", [config.Heads], Initializers.Ones, weightDecay: false);
        timeStepBias = layout.Add(prefix + "dt_bias", [config.Heads], Initializers.TimeStepBias, weightDecay: false);
        convolution = layout.AddConvolution(prefix + "conv1d.weight", Mixed, config.ConvolutionWidth, convolutionStart);
        convolutionBias = layout.Add(prefix + "conv1d.bias", [Mixed], Initializers.Zeros, weightDecay: false);
        input = layout.Add(prefix + "in_proj.weight", [Inner + Mixed + config.Heads, config.HiddenSize], normal);
        norm = layout.AddNorm(prefix + "norm.weight", Inner);
        output = layout.Add(prefix + "out_proj.weight", [config.HiddenSize, Inner], normal);
    }

    /// <summary>Width of x and z.</summary>
    private int Inner => config.Heads * config.ValueDim;

    /// <summary>Width of B, and of C.</summary>
    private int Groups => config.KeyHeads * config.KeyDim;

    /// <summary>Width of x, B and C together, which go through the convolution.</summary>
    private int Mixed => Inner + (2 * Groups);

    /// <inheritdoc/>
    public override Tensor Forward(LayerInput x, SequenceOffsets? offsets, MixerState? state, bool recompute = false)
    {
        ArgumentNullException.ThrowIfNull(x);
        var carried = (RecurrentState?)state;
        Tensor projected = x.Project(input)[0]!;
        x.Dispose();
        using var scanned = Recomputed.Run(projected.Device, recompute, () => Scan(projected, offsets, carried));
        return Linear.Apply(scanned.Output, output.Working);
    }

    /// <summary>Everything between the projections.</summary>
    private Tensor Scan(Tensor projected, SequenceOffsets? offsets, RecurrentState? carried)
    {
        int batch = projected.Shape[0];
        int time = projected.Shape[1];
        Tensor[] parts = Split.Apply(projected, [Inner, Mixed, config.Heads]);
        Tensor mixed = ShortConvolution.Apply(parts[1], convolution.Value, convolutionBias.Value, state: carried?.Convolutions[0], offsets: offsets);
        Tensor[] operands = Split.Apply(mixed, [Inner, Groups, Groups]);
        Tensor v = operands[0].Reshape([batch, time, config.Heads, config.ValueDim]);
        Tensor k = operands[1].Reshape([batch, time, config.KeyHeads, config.KeyDim]);
        Tensor q = operands[2].Reshape([batch, time, config.KeyHeads, config.KeyDim]);

        // Time steps and decays act over whole sequences: float32, whatever the activations are.
        Tensor timeStep = Elementwise.Convert(parts[2], DType.Float32);
        Tensor step = Elementwise.Softplus(Elementwise.AddRow(timeStep, timeStepBias.Value));
        Tensor logDecay = LogDecay.Apply(timeStep, rate.Value, timeStepBias.Value);
        Tensor y = HeadSkip.Apply(Recurrence.Apply(config.Mixer.Rule!, q, k, v, step, logDecay, 1, offsets, carried), v, skip.Value);
        return GatedRmsNorm.Apply(y.Reshape([batch, time, Inner]), parts[0], norm.Value, GatePlacement.BeforeNorm, (float)config.NormEpsilon);
    }

    /// <inheritdoc/>
    public override MixerState CreateState(Device device, int sequences, DType precision)
        => new RecurrentState(device, sequences, config.Heads, config.KeyDim, config.ValueDim, config.ConvolutionWidth, Mixed);

    /// <inheritdoc/>
    public override double FlopsPerToken(int length) => Recurrence.FlopsPerToken(config.Heads, config.KeyDim, config.ValueDim, length);
}
