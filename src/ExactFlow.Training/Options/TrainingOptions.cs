using System.ComponentModel;
using System.ComponentModel.DataAnnotations;

namespace ExactFlow.Training.Options;

/// <summary>Everything that decides a training run. A recipe file is this class as JSON (snake_case keys); what it leaves out keeps the default given here.</summary>
public sealed record TrainingOptions
{
    /// <summary>Names the run's folder.</summary>
    [Description("name of the run and of its folder under runs/")]
    [RegularExpression("[A-Za-z0-9._-]+", ErrorMessage = "letters, digits, '.', '_' and '-'")]
    public string Name { get; init; } = "run";

    /// <summary>Optimizer steps.</summary>
    [Description("optimizer steps of the whole run")]
    [Range(1, int.MaxValue)]
    public int Steps { get; init; } = 1000;

    /// <summary>Seed of the initial weights, the data order and the samples.</summary>
    [Description("decides initial weights, data order and samples")]
    [Range(0, int.MaxValue)]
    public int Seed { get; init; } = 42;

    /// <summary>Steps in a row whose loss or gradient may be infinite or NaN (they are not applied) before the run ends.</summary>
    [Description("steps in a row with a loss or gradient that is not finite (they are not applied) after which the run ends")]
    [Range(1, int.MaxValue)]
    public int MaxNonFiniteSteps { get; init; } = 10;

    /// <summary>The language model.</summary>
    public ModelOptions Model { get; init; } = new();

    /// <summary>Text, tokenizer, windows and batches.</summary>
    public DataOptions Data { get; init; } = new();

    /// <summary>AdamW and its learning rates.</summary>
    public OptimizerOptions Optimizer { get; init; } = new();

    /// <summary>Validation and samples while training runs.</summary>
    public EvaluationOptions Evaluation { get; init; } = new();

    /// <summary>What is kept on disk, and when.</summary>
    public CheckpointOptions Checkpoints { get; init; } = new();
}
