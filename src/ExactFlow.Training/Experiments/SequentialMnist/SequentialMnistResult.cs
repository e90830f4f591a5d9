namespace ExactFlow.Training.Experiments.SequentialMnist;

/// <summary>What a run measured.</summary>
public sealed record SequentialMnistResult
{
    /// <summary>The last steps whose mean loss is <see cref="FinalLoss"/>.</summary>
    public const int FinalSteps = 50;

    /// <summary>The rule.</summary>
    public required string Rule { get; init; }

    /// <summary>The learning rate, constant over the run.</summary>
    public required double LearningRate { get; init; }

    /// <summary>Decides weights and order of the images.</summary>
    public required int Seed { get; init; }

    /// <summary>Optimizer steps.</summary>
    public required int Steps { get; init; }

    /// <summary>Seconds of training alone, without compiling, capturing and testing.</summary>
    public required double TrainingSeconds { get; init; }

    /// <summary>Mean training loss of the last <see cref="FinalSteps"/> steps, nats; NaN if one of them was.</summary>
    public required double FinalLoss { get; init; }

    /// <summary>Part of the test images named right, undisturbed.</summary>
    public required double Accuracy { get; init; }

    /// <summary>The same at each of <see cref="Perturbation.IntensityLevels"/>.</summary>
    public required double[] Intensity { get; init; }

    /// <summary>The same at each of <see cref="Perturbation.TenthLevels"/> of noise.</summary>
    public required double[] Noise { get; init; }

    /// <summary>The same at each of <see cref="Perturbation.TenthLevels"/> of dropout.</summary>
    public required double[] Dropout { get; init; }

    /// <summary>Steps that each element of <see cref="LossCurve"/> is the mean of.</summary>
    public required int LossStride { get; init; }

    /// <summary>Training loss over the run, nats, rounded to four digits.</summary>
    public required double[] LossCurve { get; init; }
}
