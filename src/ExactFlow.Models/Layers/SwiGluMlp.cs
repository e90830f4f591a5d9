using ExactFlow.Operators;
using ExactFlow.Tensors;

namespace ExactFlow.Models.Layers;

/// <summary>The feed-forward part of a block: W_down (SiLU(W_gate x) * W_up x).</summary>
public sealed class SwiGluMlp
{
    private readonly ModelParameter gate;
    private readonly ModelParameter up;
    private readonly ModelParameter down;

    internal SwiGluMlp(LanguageModelConfig config, ParameterLayout layout, string prefix)
    {
        Initializer normal = Initializers.Normal(config.InitializerRange);
        gate = layout.Add(prefix + "gate_proj.weight", [config.InnerSize, config.HiddenSize], normal);
        up = layout.Add(prefix + "up_proj.weight", [config.InnerSize, config.HiddenSize], normal);
        down = layout.Add(prefix + "down_proj.weight", [config.HiddenSize, config.InnerSize], normal);
    }

    /// <summary>[..., hidden] to [..., hidden].</summary>
    public Tensor Forward(Tensor x)
        => Linear.Apply(SwiGlu.Apply(Linear.Apply(x, gate.Working), Linear.Apply(x, up.Working)), down.Working);
}
