namespace ExactFlow.Operators;

public static partial class Elementwise
{
    /// <summary>Float64 reference of <see cref="Silu(ExactFlow.Tensors.Tensor)"/>.</summary>
    internal static double Silu(double x) => x * Sigmoid(x);

    /// <summary>Derivative of <see cref="Silu(double)"/>: s (1 + x (1 - s)) with s = sigmoid(x).</summary>
    internal static double SiluSlope(double x) => Sigmoid(x) * (1 + (x * (1 - Sigmoid(x))));

    /// <summary>Float64 reference of <see cref="Sigmoid(ExactFlow.Tensors.Tensor)"/>.</summary>
    internal static double Sigmoid(double x) => 1 / (1 + Math.Exp(-x));

    /// <summary>Derivative of <see cref="Sigmoid(double)"/>: s (1 - s).</summary>
    internal static double SigmoidSlope(double x) => Sigmoid(x) * Sigmoid(-x);

    /// <summary>Float64 reference of <see cref="Softplus(ExactFlow.Tensors.Tensor)"/>: max(x, 0) + log1p(exp(-|x|)).</summary>
    internal static double Softplus(double x) => Math.Max(x, 0) + LogOnePlus(Math.Exp(-Math.Abs(x)));

    /// <summary>Float64 reference of <see cref="Gelu(ExactFlow.Tensors.Tensor)"/>: x Phi(x).</summary>
    internal static double Gelu(double x) => x * NormalCdf(x);

    /// <summary>Derivative of <see cref="Gelu(double)"/>: Phi(x) + x phi(x).</summary>
    internal static double GeluSlope(double x) => NormalCdf(x) + (x * Math.Exp(-0.5 * x * x) / Math.Sqrt(2 * Math.PI));

    /// <summary>y[r, i] = x[r, i] + row[i].</summary>
    internal static double[] AddRowReference(double[] x, double[] row)
    {
        var y = new double[x.Length];
        for (int i = 0; i < x.Length; i++)
        {
            y[i] = x[i] + row[i % row.Length];
        }

        return y;
    }

    /// <summary>Gradient of the row that was added: drow[i] = sum over r of dy[r, i].</summary>
    internal static double[] RowSumsReference(double[] dy, int dimension)
    {
        var sums = new double[dimension];
        for (int i = 0; i < dy.Length; i++)
        {
            sums[i % dimension] += dy[i];
        }

        return sums;
    }

    /// <summary>log(1 + x) without losing x when it is small (Kahan's correction of the rounding of 1 + x).</summary>
    private static double LogOnePlus(double x)
    {
        double sum = 1 + x;
        return sum == 1 ? x : Math.Log(sum) * x / (sum - 1);
    }

    /// <summary>Standard normal distribution function, 1 - Q(x) with Q(|x|) = erfc(|x| / sqrt 2) / 2.</summary>
    private static double NormalCdf(double x)
    {
        double tail = 0.5 * ErfcOfPositive(Math.Abs(x) / Math.Sqrt(2));
        return x < 0 ? tail : 1 - tail;
    }

    /// <summary>
    /// erfc(z) for z >= 0: below 2 one minus the Maclaurin series with positive terms, erf(z) = 2/sqrt(pi) exp(-z^2) sum (2 z^2)^n z / (2n+1)!!
    /// (Abramowitz and Stegun 7.1.6), above 2 the continued fraction (7.1.14), evaluated from the far end.
    /// </summary>
    private static double ErfcOfPositive(double z)
    {
        double gaussian = Math.Exp(-z * z);
        if (z < 2)
        {
            double term = z;
            double sum = z;
            for (int n = 1; term > sum * 1e-18; n++)
            {
                term *= 2 * z * z / ((2 * n) + 1);
                sum += term;
            }

            return 1 - (2 / Math.Sqrt(Math.PI) * gaussian * sum);
        }

        double fraction = 0;
        for (int n = 120; n >= 1; n--)
        {
            fraction = n / 2.0 / (z + fraction);
        }

        return gaussian / (Math.Sqrt(Math.PI) * (z + fraction));
    }
}
