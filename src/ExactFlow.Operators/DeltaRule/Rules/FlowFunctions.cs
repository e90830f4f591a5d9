namespace ExactFlow.Operators;

/// <summary>
/// The functions behind exact flows: <c>phi1(x) = (1 - e^-x) / x</c> and its derivative, without cancellation near 0 and without overflow for large x.
/// </summary>
internal static class FlowFunctions
{
    /// <summary>Below this |x| power series are used: their 16 terms reach 1e-17 there, and above it the closed forms lose at most two bits.</summary>
    private const double SeriesRadius = 0.5;

    /// <summary>(-1)^n / (n + 1)! for n = 15 down to 0.</summary>
    private static ReadOnlySpan<double> Phi1Series =>
    [
        -4.779477332387385e-14, 7.647163731819816e-13, -1.1470745597729725e-11, 1.6059043836821613e-10, -2.08767569878681e-09,
        2.505210838544172e-08, -2.755731922398589e-07, 2.7557319223985893e-06, -2.48015873015873e-05, 0.0001984126984126984,
        -0.001388888888888889, 0.008333333333333333, -0.041666666666666664, 0.16666666666666666, -0.5, 1.0,
    ];

    /// <summary>n (-1)^n / (n + 1)! for n = 16 down to 1.</summary>
    private static ReadOnlySpan<double> Phi1SlopeSeries =>
    [
        4.498331606952833e-14, -7.169215998581078e-13, 1.0706029224547743e-11, -1.4911969277048643e-10, 1.9270852604185937e-09,
        -2.296443268665491e-08, 2.505210838544172e-07, -2.48015873015873e-06, 2.2045855379188714e-05, -0.00017361111111111112,
        0.0011904761904761906, -0.006944444444444444, 0.03333333333333333, -0.125, 0.3333333333333333, -0.5,
    ];

    /// <summary>phi1(x) = (1 - e^-x) / x, phi1(0) = 1.</summary>
    public static double Phi1(double x) => Math.Abs(x) < SeriesRadius ? Polynomial(Phi1Series, x) : (1 - Math.Exp(-x)) / x;

    /// <summary>phi1'(x) = (e^-x - phi1(x)) / x, phi1'(0) = -1/2.</summary>
    public static double Phi1Slope(double x) => Phi1Slope(x, Math.Exp(-x));

    /// <summary>phi1'(x) where e^-x is known already.</summary>
    public static double Phi1Slope(double x, double decay)
        => Math.Abs(x) < SeriesRadius ? Polynomial(Phi1SlopeSeries, x) : (decay - ((1 - decay) / x)) / x;

    /// <summary>1 - e^x without cancellation; 1 for x = -infinity.</summary>
    public static double OneMinusExp(double x) => Math.Abs(x) < SeriesRadius ? -x * Polynomial(Phi1Series, -x) : 1 - Math.Exp(x);

    /// <summary>Horner's scheme, highest power first.</summary>
    private static double Polynomial(ReadOnlySpan<double> coefficients, double x)
    {
        double sum = 0;
        foreach (double coefficient in coefficients)
        {
            sum = Math.FusedMultiplyAdd(sum, x, coefficient);
        }

        return sum;
    }
}
