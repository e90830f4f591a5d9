using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;

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
    /// <param name="x">Normalised input; projected once and given up.</param>
    /// <param name="recomputation">Whether the backward pass computes the product with the activation again, and the projections before it.</param>
    public Tensor Forward(LayerInput x, Recomputation recomputation = Recomputation.None)
    {
        ArgumentNullException.ThrowIfNull(x);
        if (recomputation >= Recomputation.Mlp)
        {
            Tensor input = x.Value;
            using var whole = Recomputed.Run(input.Device, true, () =>
            {
                Tensor[] halves = Linear.ApplyAll(input, [gate.Working, up.Working]);
                return SwiGlu.Apply(halves[0], halves[1]);
            });
            return Linear.Apply(whole.Output, down.Working);
        }

        Tensor?[] projected = x.Project(gate, up);
        x.Dispose();
        Tensor gated = projected[0]!, upper = projected[1]!;
        return recomputation == Recomputation.Light
            ? SwiGlu.ApplyThenProject(gated, upper, down.Working)
            : Linear.Apply(SwiGlu.Apply(gated, upper), down.Working);
    }
}
