using System.ComponentModel;
using System.ComponentModel.DataAnnotations;
using ExactFlow.Models;

namespace ExactFlow.Training.Options;

/// <summary>The shape of a language model, without what follows from the tokenizer.</summary>
public sealed record ModelOptions
{
    /// <summary>The mixer: a rule of the delta family, an integrator, mamba2 or softmax attention.</summary>
    [Description("mixer of every layer: efla, deltanet, gated_efla, log_rate_gated_efla, gated_deltanet, an integrator, mamba2 or attention")]
    public string Rule { get; init; } = "efla";

    /// <summary>Width of the residual stream.</summary>
    [Description("width of the residual stream")]
    [Range(1, 65536)]
    public int Hidden { get; init; } = 256;

    /// <summary>Residual blocks.</summary>
    [Description("residual blocks")]
    [Range(1, 1024)]
    public int Layers { get; init; } = 4;

    /// <summary>Heads of each mixer; must divide the width.</summary>
    [Description("heads of each mixer; must divide model.hidden")]
    [Range(1, 1024)]
    public int Heads { get; init; } = 4;

    /// <summary>Standard deviation of the short convolutions' initial weights. The default is that of U(-1/2, 1/2), usual for a width of 4.</summary>
    [Description("standard deviation of the short convolutions' initial weights")]
    [Range(1e-6, 10)]
    public double ConvolutionDeviation { get; init; } = 0.289;

    /// <summary>Number format of activations and of the matrices they are multiplied by; see <see cref="ModelPrecision"/>.</summary>
    [Description("number format of activations: auto = bfloat16 on GPUs, float32 on the CPU; weights and optimizer state are float32 always")]
    [AllowedValues(ModelPrecision.Auto, ModelPrecision.Float32, ModelPrecision.BFloat16)]
    public string Precision { get; init; } = ModelPrecision.Auto;

    /// <summary>What the backward pass computes again; see <see cref="Recomputation"/>.</summary>
    [Description("what the backward pass computes again instead of keeping it: none; light = all but matrix products; mlp = light and the MLP's first products; block = everything")]
    [AllowedValues("none", "light", "mlp", "block")]
    public string Recompute { get; init; } = "none";

    /// <summary>Blocks that <see cref="Recompute"/> holds for, from the first on; the others do what the level below does. 0: all.</summary>
    [Description("blocks that model.recompute holds for; the others take the level below it; 0 = all")]
    [Range(0, 1024)]
    public int RecomputeBlocks { get; init; }

    /// <summary>Whether the output head is the embedding table itself.</summary>
    [Description("whether the output head shares the embedding table")]
    public bool TieEmbeddings { get; init; }

    /// <summary>A model folder whose weights training starts from; null draws new ones.</summary>
    [Description("model folder whose weights training starts from, as 'exactflow convert' writes it; null draws new ones")]
    public string? Weights { get; init; }
}
