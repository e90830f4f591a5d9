using ExactFlow.Training.Experiments;

namespace ExactFlow.Training;

/// <summary>What a comparison found.</summary>
public sealed record ComparisonResult
{
    /// <summary>One entry per rule, in the order given.</summary>
    public required IReadOnlyList<RuleResult> Rules { get; init; }

    /// <summary>Bits per byte that Brotli at its best (quality 11, window 2^24) needs for the validation text.</summary>
    public required double BrotliBitsPerByte { get; init; }

    /// <summary>Bytes of the validation text.</summary>
    public required long ValidationBytes { get; init; }

    /// <summary>Tokens of the training text.</summary>
    public required long TrainingTokens { get; init; }

    /// <summary>Wall-clock time from the start of this process's work to its end.</summary>
    public required double Seconds { get; init; }
}

/// <summary>The results of one rule over all seeds.</summary>
public sealed record RuleResult
{
    /// <summary>The rule.</summary>
    public required string Rule { get; init; }

    /// <summary>Numbers in the model.</summary>
    public required long Parameters { get; init; }

    /// <summary>One entry per seed.</summary>
    public required IReadOnlyList<SeedResult> Seeds { get; init; }

    /// <summary>The mean of a figure over the seeds.</summary>
    public double Mean(Func<SeedResult, double> figure) => MeanAndSpread.Of(Seeds.Select(figure)).Mean;

    /// <summary>The sample standard deviation of a figure over the seeds; NaN for a single one.</summary>
    public double Spread(Func<SeedResult, double> figure) => MeanAndSpread.Of(Seeds.Select(figure)).Spread;
}

/// <summary>The results of one run.</summary>
public sealed record SeedResult
{
    /// <summary>The seed.</summary>
    public required int Seed { get; init; }

    /// <summary>Nats per token of the whole validation text.</summary>
    public required double ValidationLoss { get; init; }

    /// <summary>exp of <see cref="ValidationLoss"/>.</summary>
    public required double Perplexity { get; init; }

    /// <summary>Bits per byte of the whole validation text.</summary>
    public required double BitsPerByte { get; init; }

    /// <summary>Tokens of a step over the median time of a step.</summary>
    public required double TokensPerSecond { get; init; }

    /// <summary>The most bytes of tensors (weights, moments, activations) held at once.</summary>
    public required long PeakBytes { get; init; }

    /// <summary>Steps not applied because of a loss or gradient that was not finite.</summary>
    public required int SkippedSteps { get; init; }
}
