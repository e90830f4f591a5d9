using System.Globalization;

namespace ExactFlow.Training.Experiments;

/// <summary>What several seeds gave.</summary>
/// <param name="Mean">Their mean.</param>
/// <param name="Spread">Their sample standard deviation (divided by one less than their number); NaN for a single one.</param>
/// <param name="Lowest">The lowest.</param>
/// <param name="Highest">The highest.</param>
/// <param name="Count">How many there are.</param>
public readonly record struct MeanAndSpread(double Mean, double Spread, double Lowest, double Highest, int Count)
{
    /// <summary>Of at least one value. One that is not finite makes mean and spread not finite.</summary>
    public static MeanAndSpread Of(IEnumerable<double> values)
    {
        double[] all = [.. values];
        ArgumentOutOfRangeException.ThrowIfZero(all.Length, nameof(values));
        double mean = all.Average();
        double spread = all.Length < 2 ? double.NaN : Math.Sqrt(all.Sum(value => (value - mean) * (value - mean)) / (all.Length - 1));
        return new MeanAndSpread(mean, spread, all.Min(), all.Max(), all.Length);
    }

    /// <summary>As <c>92.3 ± 0.2</c>, or <c>92.3</c> for a single value.</summary>
    /// <param name="format">The format of both numbers.</param>
    public string ToString(string format)
        => double.IsNaN(Spread) ? Mean.ToString(format, CultureInfo.InvariantCulture) : string.Create(CultureInfo.InvariantCulture, $"{Mean.ToString(format, CultureInfo.InvariantCulture)} ± {Spread.ToString(format, CultureInfo.InvariantCulture)}");
}
