namespace ExactFlow.Training;

/// <summary>Everything a step line shows.</summary>
public readonly record struct StepRecord
{
    /// <summary>Steps done, this one included.</summary>
    public required int Step { get; init; }

    /// <summary>Steps of the whole run.</summary>
    public required int Steps { get; init; }

    /// <summary>Training loss of the step's batches, nats per token.</summary>
    public required double Loss { get; init; }

    /// <summary>Learning rate of the step.</summary>
    public required double LearningRate { get; init; }

    /// <summary>Global gradient norm before clipping; NaN when the loss was not finite.</summary>
    public required double GradientNorm { get; init; }

    /// <summary>Whether the weights were changed: false when the loss or the gradient was not finite.</summary>
    public required bool Applied { get; init; }

    /// <summary>Steps of this run that were not applied, this one included.</summary>
    public required int SkippedSteps { get; init; }

    /// <summary>Tokens the step trained on.</summary>
    public required int Tokens { get; init; }

    /// <summary>Time of the step without validation, samples and checkpoints.</summary>
    public required double Milliseconds { get; init; }

    /// <summary>Floating-point operations of the step: see <see cref="ITrainingTask.FlopsPerToken"/>.</summary>
    public required double Flops { get; init; }

    /// <summary>Measured matrix-product rate of the machine in FLOP/s, or 0 when it was not measured.</summary>
    public required double MachineFlopsPerSecond { get; init; }

    /// <summary>Time left at the mean speed so far, validation, samples and checkpoints included.</summary>
    public required double SecondsLeft { get; init; }

    /// <summary>Share of the run that is done.</summary>
    public double Fraction => (double)Step / Steps;

    /// <summary>Tokens per second.</summary>
    public double TokensPerSecond => Tokens / Milliseconds * 1e3;

    /// <summary>Floating-point operations per second.</summary>
    public double FlopsPerSecond => Flops / Milliseconds * 1e3;

    /// <summary>Share of the machine's matrix-product rate; NaN when that was not measured.</summary>
    public double MachineShare => MachineFlopsPerSecond > 0 ? FlopsPerSecond / MachineFlopsPerSecond : double.NaN;
}
