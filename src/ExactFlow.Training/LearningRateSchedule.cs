using ExactFlow.Tensors;

namespace ExactFlow.Training;

/// <summary>
/// The learning rate of every step: a line from <see cref="Start"/> to <see cref="Peak"/> over the warm-up steps, then half a cosine down to
/// <see cref="End"/>, which would be reached at step <see cref="Steps"/> (one after the last).
/// </summary>
public sealed class LearningRateSchedule
{
    /// <summary>Checks and keeps the numbers.</summary>
    /// <param name="peak">The rate after the warm-up, above 0.</param>
    /// <param name="start">The rate of step 0 when there is a warm-up; 0 or more.</param>
    /// <param name="end">The rate the cosine falls to; 0 or more.</param>
    /// <param name="warmUpSteps">Steps before the peak; 0 starts at the peak.</param>
    /// <param name="steps">Steps of the whole run.</param>
    /// <exception cref="InvalidInputException">A rate is negative or not finite, the peak is 0, or the warm-up is longer than the run.</exception>
    public LearningRateSchedule(double peak, double start, double end, int warmUpSteps, int steps)
    {
        RequireRate(peak, nameof(peak), peak > 0, "above 0");
        RequireRate(start, nameof(start), start >= 0, "0 or more");
        RequireRate(end, nameof(end), end >= 0, "0 or more");
        if (steps < 1 || warmUpSteps < 0 || warmUpSteps > steps)
        {
            throw new InvalidInputException($"A learning-rate schedule needs at least 1 step and a warm-up within them, but it was given {warmUpSteps} warm-up steps of {steps}.");
        }

        Peak = peak;
        Start = start;
        End = end;
        WarmUpSteps = warmUpSteps;
        Steps = steps;
    }

    /// <summary>The highest rate.</summary>
    public double Peak { get; }

    /// <summary>The rate the warm-up begins with.</summary>
    public double Start { get; }

    /// <summary>The rate the cosine ends with.</summary>
    public double End { get; }

    /// <summary>Steps of the warm-up.</summary>
    public int WarmUpSteps { get; }

    /// <summary>Steps of the run.</summary>
    public int Steps { get; }

    /// <summary>The rate of a step, counted from 0; steps after the last keep <see cref="End"/>.</summary>
    public double At(int step)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(step);
        if (step < WarmUpSteps)
        {
            return Start + ((Peak - Start) * step / WarmUpSteps);
        }

        if (step >= Steps)
        {
            return End;
        }

        double progress = (double)(step - WarmUpSteps) / (Steps - WarmUpSteps);
        return End + ((Peak - End) * 0.5 * (1 + Math.Cos(Math.PI * progress)));
    }

    private static void RequireRate(double rate, string name, bool isInRange, string range)
    {
        if (!double.IsFinite(rate) || !isInRange)
        {
            throw new InvalidInputException($"The {name} learning rate must be {range}, but it is {rate}.");
        }
    }
}
