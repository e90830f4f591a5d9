using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;

namespace ExactFlow.Models.Layers;

/// <summary>
/// The mixer of the delta family. q, k, v = SiLU(conv(W x)); q is L2-normalised per head, k only where the rule or the configuration says so;
/// beta = sigmoid(W_b x); the recurrence of the rule; RMSNorm per head, times SiLU(W_g x) with the output gate; W_o.
/// Gated rules add log_decay = -exp(A_log) softplus(W_a x + dt_bias) per head.
/// </summary>
public sealed class DeltaMixer : Mixer
{
    private readonly LanguageModelConfig config;
    private readonly DeltaRuleKind rule;
    private readonly Channel query;
    private readonly Channel key;
    private readonly Channel value;
    private readonly ModelParameter? stepSize;
    private readonly Decay? decay;
    private readonly ModelParameter? gate;
    private readonly ModelParameter norm;
    private readonly ModelParameter output;

    internal DeltaMixer(LanguageModelConfig config, ParameterLayout layout, string prefix)
    {
        this.config = config;
        rule = config.Mixer.Rule!;
        int hidden = config.HiddenSize;
        int values = config.Heads * config.ValueDim;
        Initializer normal = Initializers.Normal(config.InitializerRange);
        query = new Channel(config, layout, prefix, "q", config.KeyHeads, config.KeyDim);
        key = new Channel(config, layout, prefix, "k", config.KeyHeads, config.KeyDim);
        value = new Channel(config, layout, prefix, "v", config.Heads, config.ValueDim);
        stepSize = rule.UsesBeta ? layout.Add(prefix + "b_proj.weight", [config.Heads, hidden], normal) : null;
        decay = rule.Decays ? new Decay(config, layout, prefix) : null;
        gate = config.OutputGate ? layout.Add(prefix + "g_proj.weight", [values, hidden], normal) : null;
        norm = layout.AddNorm(prefix + "o_norm.weight", config.ValueDim);
        output = layout.Add(prefix + "o_proj.weight", [hidden, values], normal);
    }

    /// <inheritdoc/>
    public override Tensor Forward(LayerInput x, SequenceOffsets? offsets, MixerState? state, bool recompute = false)
    {
        ArgumentNullException.ThrowIfNull(x);
        var carried = (RecurrentState?)state;
        Tensor?[] parts = x.Project(query.Projection, key.Projection, value.Projection, stepSize, decay?.Projection, gate);
        x.Dispose();
        var projected = new Projected(parts[0]!, parts[1]!, parts[2]!, parts[3], parts[4], parts[5]);
        using var mixed = Recomputed.Run(projected.Query.Device, recompute, () => Mix(projected, offsets, carried));
        return Linear.Apply(mixed.Output, output.Working);
    }

    /// <inheritdoc/>
    public override MixerState CreateState(Device device, int sequences, DType precision) => new RecurrentState(
        device, sequences, config.Heads, config.KeyDim, config.ValueDim, config.ConvolutionWidth, query.Width, key.Width, value.Width);

    /// <inheritdoc/>
    public override double FlopsPerToken(int length) => Recurrence.FlopsPerToken(config.Heads, config.KeyDim, config.ValueDim, length);

    /// <summary>Everything between the projections: [batch, time, heads * V].</summary>
    private Tensor Mix(Projected x, SequenceOffsets? offsets, RecurrentState? carried)
    {
        Tensor q = query.Convolve(x.Query, offsets, carried?.Convolutions[0], normalize: true);
        Tensor k = key.Convolve(x.Key, offsets, carried?.Convolutions[1], config.NormalizeKeys);
        Tensor v = value.Convolve(x.Value, offsets, carried?.Convolutions[2], normalize: false);
        Tensor o = Recurrence.Apply(rule, q, k, v, StepSize(x.StepSize), decay?.LogDecay(x.Decay!), null, offsets, carried);
        return Normalize(o, x.Gate).Reshape([o.Shape[0], o.Shape[1], config.Heads * config.ValueDim]);
    }

    private Tensor? StepSize(Tensor? projected)
    {
        if (projected is null)
        {
            return null;
        }

        // Step sizes and decays act over whole sequences: float32, whatever the activations are.
        Tensor beta = Elementwise.Sigmoid(projected, DType.Float32);
        return config.DoubleStepSize ? Elementwise.Scale(beta, 2) : beta;
    }

    private Tensor Normalize(Tensor o, Tensor? gate)
    {
        float epsilon = (float)config.NormEpsilon;
        return gate is null
            ? RmsNorm.Apply(o, norm.Value, epsilon)
            : GatedRmsNorm.Apply(o, gate.Reshape(o.Shape), norm.Value, GatePlacement.AfterNorm, epsilon);
    }

    /// <summary>The projections of a layer's input, which the backward pass reads again.</summary>
    private sealed record Projected(Tensor Query, Tensor Key, Tensor Value, Tensor? StepSize, Tensor? Decay, Tensor? Gate);

    /// <summary>One of q, k, v: projection, short convolution, SiLU, heads, unit length.</summary>
    private sealed class Channel
    {
        private readonly ModelParameter convolution;
        private readonly int heads;
        private readonly int dim;

        public Channel(LanguageModelConfig config, ParameterLayout layout, string prefix, string name, int heads, int dim)
        {
            this.heads = heads;
            this.dim = dim;
            Projection = layout.Add($"{prefix}{name}_proj.weight", [Width, config.HiddenSize], Initializers.Normal(config.InitializerRange));
            convolution = layout.AddConvolution($"{prefix}{name}_conv1d.weight", Width, config.ConvolutionWidth, Initializers.Normal(config.ConvolutionInitializerRange));
        }

        public int Width => heads * dim;

        public ModelParameter Projection { get; }

        /// <summary>[batch, time, heads, dim], each head of unit length where <paramref name="normalize"/> says so.</summary>
        public Tensor Convolve(Tensor x, SequenceOffsets? offsets, Tensor? state, bool normalize)
        {
            Tensor y = normalize
                ? ShortConvolution.ApplyNormalized(x, convolution.Value, dim, state: state, offsets: offsets)
                : ShortConvolution.Apply(x, convolution.Value, state: state, offsets: offsets);
            return y.Reshape([x.Shape[0], x.Shape[1], heads, dim]);
        }
    }

    /// <summary>The learned decay of the gated rules.</summary>
    private sealed class Decay
    {
        private readonly ModelParameter rate;
        private readonly ModelParameter bias;

        public Decay(LanguageModelConfig config, ParameterLayout layout, string prefix)
        {
            Projection = layout.Add(prefix + "a_proj.weight", [config.Heads, config.HiddenSize], Initializers.Normal(config.InitializerRange));
            rate = layout.Add(prefix + "A_log", [config.Heads], Initializers.GateRate, weightDecay: false);
            bias = layout.Add(prefix + "dt_bias", [config.Heads], Initializers.TimeStepBias, weightDecay: false);
        }

        public ModelParameter Projection { get; }

        public Tensor LogDecay(Tensor projected) => Operators.LogDecay.Apply(Elementwise.Convert(projected, DType.Float32), rate.Value, bias.Value);
    }
}
