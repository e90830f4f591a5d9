using ExactFlow.Models.Layers;
using ExactFlow.Operators;
using ExactFlow.Tensors;

namespace ExactFlow.Models.Decoding;

/// <summary>The weights and states of one block of a delta-family model, as <see cref="FusedPass"/> reads them: by their names in files.</summary>
internal sealed class FusedLayer
{
    private readonly IReadOnlyDictionary<string, ModelParameter> parameters;
    private readonly string prefix;
    private readonly List<(Tensor Weight, int Column)> projections = [];

    public FusedLayer(LanguageModelConfig config, IReadOnlyDictionary<string, ModelParameter> parameters, string prefix, RecurrentState state)
    {
        this.parameters = parameters;
        this.prefix = prefix;
        DeltaRuleKind rule = config.Mixer.Rule!;
        var columns = new DecodeMixerColumns(
            Query: Project("q_proj"),
            Key: Project("k_proj"),
            Value: Project("v_proj"),
            Beta: rule.UsesBeta ? Project("b_proj") : -1,
            Decay: rule.Decays ? Project("a_proj") : -1,
            Gate: config.OutputGate ? Project("g_proj") : -1);
        Mixer = new DecodeMixerLayer
        {
            Rule = rule,
            Columns = columns,
            Heads = config.Heads,
            KeyHeads = config.KeyHeads,
            KeyDim = config.KeyDim,
            ValueDim = config.ValueDim,
            NormalizeKeys = config.NormalizeKeys,
            DoubleStepSize = config.DoubleStepSize,
            Epsilon = (float)config.NormEpsilon,
            QueryFilter = Vector("attn.q_conv1d.weight"),
            KeyFilter = Vector("attn.k_conv1d.weight"),
            ValueFilter = Vector("attn.v_conv1d.weight"),
            QueryState = state.Convolutions[0],
            KeyState = state.Convolutions[1],
            ValueState = state.Convolutions[2],
            Memory = state.Memory,
            LogRate = rule.Decays ? Vector("attn.A_log") : null,
            RateBias = rule.Decays ? Vector("attn.dt_bias") : null,
            Norm = Vector("attn.o_norm.weight"),
        };
        MixerNorm = Vector("attn_norm.weight");
        MlpNorm = Vector("mlp_norm.weight");
        Output = Matrix("attn.o_proj.weight");
        Gate = Matrix("mlp.gate_proj.weight");
        Up = Matrix("mlp.up_proj.weight");
        Down = Matrix("mlp.down_proj.weight");
    }

    /// <summary>The mixer between its projections.</summary>
    public DecodeMixerLayer Mixer { get; }

    /// <summary>Weights that the normalised input is multiplied by, each with the first column of its result.</summary>
    public (Tensor Weight, int Column)[] Projections => field ??= [.. projections];

    /// <summary>Columns of the projections together.</summary>
    public int Columns { get; private set; }

    /// <summary>Weight of the norm before the mixer.</summary>
    public Tensor MixerNorm { get; }

    /// <summary>Weight of the norm before the MLP.</summary>
    public Tensor MlpNorm { get; }

    /// <summary>The mixer's last projection.</summary>
    public Tensor Output { get; }

    /// <summary>The gate of the SwiGLU.</summary>
    public Tensor Gate { get; }

    /// <summary>What the gate is multiplied with.</summary>
    public Tensor Up { get; }

    /// <summary>The MLP's last projection.</summary>
    public Tensor Down { get; }

    private int Project(string name)
    {
        Tensor weight = Matrix($"attn.{name}.weight");
        int column = Columns;
        projections.Add((weight, column));
        Columns += weight.Shape[0];
        return column;
    }

    private Tensor Matrix(string name) => parameters[prefix + name].Working;

    private Tensor Vector(string name) => parameters[prefix + name].Value;
}
