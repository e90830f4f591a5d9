using ExactFlow.Models.Mad;

namespace ExactFlow.Training.Experiments.Mad;

/// <summary>A training of a study.</summary>
/// <param name="Task">The task.</param>
/// <param name="Settings">Its difficulty.</param>
/// <param name="Setting">What differs from the task's baseline, or <c>baseline</c>.</param>
/// <param name="Mixer">The mixer.</param>
/// <param name="LearningRate">The learning rate of the first epoch.</param>
/// <param name="WeightDecay">AdamW's weight decay.</param>
/// <param name="Seed">Seed of data, weights and order.</param>
public sealed record MadPoint(MadTaskKind Task, MadSettings Settings, string Setting, MadMixer Mixer, double LearningRate, double WeightDecay, ulong Seed)
{
    /// <summary>The training's name in a study.</summary>
    public override string ToString() => FormattableString.Invariant($"{Task} {Setting} {Mixer} lr={LearningRate} wd={WeightDecay} seed={Seed}");
}
