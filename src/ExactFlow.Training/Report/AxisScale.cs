using System.Globalization;

namespace ExactFlow.Training.Report;

/// <summary>An axis of a figure: from values to places, and the values that get a tick.</summary>
internal readonly struct AxisScale
{
    private const int WantedTicks = 6;
    private readonly double low;
    private readonly double high;
    private readonly double start;
    private readonly double end;
    private readonly bool isLog;

    private AxisScale(double low, double high, bool isLog, double start, double end)
        => (this.low, this.high, this.isLog, this.start, this.end) = (low, high, isLog, start, end);

    /// <summary>The axis that holds all given values.</summary>
    /// <param name="values">Values to be shown; those that cannot be are passed over.</param>
    /// <param name="isLog">Whether equal ratios have equal lengths.</param>
    /// <param name="tight">Whether the axis ends where the values end, instead of at the next tick.</param>
    /// <param name="start">Place of the lower end.</param>
    /// <param name="end">Place of the upper end.</param>
    public static AxisScale Of(IEnumerable<double> values, bool isLog, bool tight, double start, double end)
    {
        double[] shown = [.. values.Where(value => double.IsFinite(value) && (!isLog || value > 0))];
        double low = shown.Length == 0 ? 1 : shown.Min(), high = shown.Length == 0 ? 2 : shown.Max();
        if (low == high)
        {
            (low, high) = isLog ? (low / 2, high * 2) : (low - 0.5, high + 0.5);
        }

        if (!tight && !isLog)
        {
            double step = Step(low, high);
            (low, high) = (Math.Floor((low / step) + 1e-9) * step, Math.Ceiling((high / step) - 1e-9) * step);
        }

        return new AxisScale(low, high, isLog, start, end);
    }

    /// <summary>Whether a value has a place.</summary>
    public bool Shows(double value) => double.IsFinite(value) && (!isLog || value > 0);

    /// <summary>The place of a value.</summary>
    public double this[double value] => start + ((end - start) * (isLog ? Math.Log(value / low) / Math.Log(high / low) : (value - low) / (high - low)));

    /// <summary>Values with their texts.</summary>
    public IEnumerable<(double Value, string Text)> Ticks() => isLog ? LogTicks() : LinearTicks();

    private static double Step(double low, double high)
    {
        double rough = (high - low) / WantedTicks;
        double power = Math.Pow(10, Math.Floor(Math.Log10(rough)));
        double mantissa = rough / power;
        return power * (mantissa <= 1 ? 1 : mantissa <= 2 ? 2 : mantissa <= 5 ? 5 : 10);
    }

    private IEnumerable<(double, string)> LinearTicks()
    {
        double step = Step(low, high);
        int digits = Math.Max(0, -(int)Math.Floor(Math.Log10(step) + 1e-9));
        for (double index = Math.Ceiling((low / step) - 1e-9); index * step <= high + (1e-9 * step); index++)
        {
            double value = (index * step) + 0.0;   // a negative zero becomes zero
            yield return (value, value.ToString("F" + digits, CultureInfo.InvariantCulture));
        }
    }

    private IEnumerable<(double, string)> LogTicks()
    {
        double[] mantissas = Math.Log10(high / low) > 3 ? [1] : [1, 3];
        for (double power = Math.Floor(Math.Log10(low)); power <= Math.Log10(high); power++)
        {
            foreach (double mantissa in mantissas)
            {
                double value = mantissa * Math.Pow(10, power);
                if (value >= low * (1 - 1e-9) && value <= high * (1 + 1e-9))
                {
                    yield return (value, value.ToString(value is >= 0.01 and < 10_000 ? "0.##" : "0e+0", CultureInfo.InvariantCulture));
                }
            }
        }
    }
}
