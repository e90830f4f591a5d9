using ExactFlow.Models.Mad;

namespace ExactFlow.Training.Experiments.Mad;

/// <summary>How a model is trained on a task: MAD's protocol, whose lengths can be cut.</summary>
public sealed record MadTraining
{
    /// <summary>What is trained; its vocabulary is the task's.</summary>
    public required MadModelConfig Model { get; init; }

    /// <summary>The learning rate of the first epoch.</summary>
    public required double LearningRate { get; init; }

    /// <summary>AdamW's weight decay.</summary>
    public required double WeightDecay { get; init; }

    /// <summary>Seed of data, initial weights and order.</summary>
    public required ulong Seed { get; init; }

    /// <summary>Passes over the training examples; the learning rate falls along half a cosine to <see cref="LastLearningRate"/>, epoch by epoch.</summary>
    public int Epochs { get; init; } = 200;

    /// <summary>Examples per step. What an epoch leaves over is left out of it; each epoch has another order.</summary>
    public int Batch { get; init; } = 128;

    /// <summary>Where the cosine ends.</summary>
    public double LastLearningRate { get; init; } = 1e-6;

    /// <summary>Test accuracy from which on training goes no further, since the best one counts: 1 loses nothing. Above 1 it always goes on to the end.</summary>
    public double EnoughAccuracy { get; init; } = 1;

    /// <summary>Number format: <c>auto</c>, <c>float32</c> or <c>bfloat16</c>.</summary>
    public string Precision { get; init; } = "auto";

    /// <summary>Lengths at which the trained model is tested besides its own.</summary>
    public IReadOnlyList<int> Extrapolation { get; init; } = [];

    /// <summary>The learning rate of an epoch, from 0.</summary>
    public double RateOf(int epoch) => LastLearningRate + (0.5 * (LearningRate - LastLearningRate) * (1 + Math.Cos(Math.PI * epoch / Epochs)));
}
