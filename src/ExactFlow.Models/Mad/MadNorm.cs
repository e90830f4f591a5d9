using ExactFlow.Models.Layers;
using ExactFlow.Operators;
using ExactFlow.Tensors;

namespace ExactFlow.Models.Mad;

/// <summary>A LayerNorm with weight and bias.</summary>
internal sealed class MadNorm(ParameterLayout layout, string name, int width, float epsilon)
{
    private readonly ModelParameter weight = layout.AddNorm(name + ".weight", width);
    private readonly ModelParameter bias = layout.Add(name + ".bias", [width], Initializers.Zeros, weightDecay: false);

    /// <summary>[..., width] to the same.</summary>
    public Tensor Apply(Tensor x) => LayerNorm.Apply(x, weight.Value, bias.Value, epsilon);
}
