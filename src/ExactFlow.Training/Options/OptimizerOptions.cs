using System.ComponentModel;
using System.ComponentModel.DataAnnotations;

namespace ExactFlow.Training.Options;

/// <summary>AdamW, its learning-rate schedule and gradient clipping.</summary>
public sealed record OptimizerOptions
{
    /// <summary>Learning rate at the end of the warm-up.</summary>
    [Description("peak learning rate")]
    [Range(double.Epsilon, 1e3)]
    public double LearningRate { get; init; } = 2e-3;

    /// <summary>Learning rate of step 0.</summary>
    [Description("learning rate the warm-up begins with")]
    [Range(0, 1e3)]
    public double StartLearningRate { get; init; } = 2e-4;

    /// <summary>Learning rate the cosine falls to.</summary>
    [Description("learning rate the cosine falls to")]
    [Range(0, 1e3)]
    public double EndLearningRate { get; init; } = 2e-4;

    /// <summary>Steps from the first learning rate to the peak.</summary>
    [Description("steps of the warm-up")]
    [Range(0, int.MaxValue)]
    public int WarmUpSteps { get; init; } = 50;

    /// <summary>Decoupled weight decay, for parameters that take it (matrices; not norms, biases or gates).</summary>
    [Description("decoupled weight decay of the weight matrices")]
    [Range(0, 100)]
    public double WeightDecay { get; init; } = 0.1;

    /// <summary>Decay of the first moment.</summary>
    [Description("decay of AdamW's first moment")]
    [Range(0, 0.999999)]
    public double Beta1 { get; init; } = 0.9;

    /// <summary>Decay of the second moment.</summary>
    [Description("decay of AdamW's second moment")]
    [Range(0, 0.999999)]
    public double Beta2 { get; init; } = 0.95;

    /// <summary>Added to the root of the second moment.</summary>
    [Description("added to the root of AdamW's second moment")]
    [Range(1e-30, 1)]
    public double Epsilon { get; init; } = 1e-8;

    /// <summary>Largest global gradient norm; larger gradients are scaled down to it. 0 switches clipping off.</summary>
    [Description("largest global gradient norm, larger ones are scaled down to it; 0 = no clipping")]
    [Range(0, 1e9)]
    public double Clip { get; init; } = 1;
}
