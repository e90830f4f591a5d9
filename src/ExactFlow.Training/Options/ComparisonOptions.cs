using System.ComponentModel;
using System.ComponentModel.DataAnnotations;

namespace ExactFlow.Training.Options;

/// <summary>Which rules are compared, on which seeds, and the recipe they share.</summary>
public sealed record ComparisonOptions
{
    /// <summary>Names the comparison's folder.</summary>
    [Description("name of the comparison and of its folder under runs/")]
    [RegularExpression("[A-Za-z0-9._-]+", ErrorMessage = "letters, digits, '.', '_' and '-'")]
    public string Name { get; init; } = "compare";

    /// <summary>The mixers to compare; differences are reported against the first.</summary>
    [Description("mixers to compare, comma-separated; differences are shown against the first")]
    public string[] Rules { get; init; } = ["efla", "deltanet"];

    /// <summary>Seeds; every rule is trained once with each.</summary>
    [Description("seeds, comma-separated; every rule is trained once with each")]
    public int[] Seeds { get; init; } = [42];

    /// <summary>Steps that one rule does before the next has its turn.</summary>
    [Description("steps one rule does before the next has its turn, so that curves grow together and disturbances of the machine hit all alike")]
    [Range(1, int.MaxValue)]
    public int Turn { get; init; } = 5;

    /// <summary>
    /// The recipe of every run; its name, seed and rule are set by the comparison. The defaults are those of the main job: two models of 5.5 million numbers
    /// that learn visibly within three minutes on two cores, everything included. The number of steps is fixed, not timed, so that a run can be repeated exactly.
    /// </summary>
    public TrainingOptions Training { get; init; } = new()
    {
        Steps = 480,
        Data = new DataOptions { BatchSize = 4 },
        Optimizer = new OptimizerOptions { LearningRate = 3e-3, StartLearningRate = 3e-4, EndLearningRate = 2e-4, WarmUpSteps = 40 },
        Evaluation = new EvaluationOptions { Every = 80, SampleEvery = 120 },
        Checkpoints = new CheckpointOptions { Every = 160, KeepLast = 1, KeepBest = false },
    };
}
