namespace ExactFlow.Operators;

public static partial class LayerNorm
{
    /// <summary>y_i = n_i w_i + b_i with n_i = (x_i - mean) r and r = (mean((x - mean)^2) + epsilon)^(-1/2), row by row.</summary>
    internal static double[] Reference(double[] x, double[] weight, double[] bias, double epsilon)
    {
        int dimension = weight.Length;
        var y = new double[x.Length];
        for (int row = 0; row < x.Length; row += dimension)
        {
            (double mean, double r) = Moments(x, row, dimension, epsilon);
            for (int i = 0; i < dimension; i++)
            {
                y[row + i] = ((x[row + i] - mean) * r * weight[i]) + bias[i];
            }
        }

        return y;
    }

    /// <summary>With g_i = w_i dy_i: dx_i = r (g_i - mean(g) - n_i mean(g n)), dw_i = sum over rows of dy_i n_i, db_i = sum over rows of dy_i.</summary>
    internal static (double[] X, double[] Weight, double[] Bias) ReferenceGradient(double[] x, double[] weight, double epsilon, double[] dy)
    {
        int dimension = weight.Length;
        var dx = new double[x.Length];
        var dWeight = new double[dimension];
        var dBias = new double[dimension];
        for (int row = 0; row < x.Length; row += dimension)
        {
            (double mean, double r) = Moments(x, row, dimension, epsilon);
            double meanGradient = 0;
            double meanProduct = 0;
            for (int i = 0; i < dimension; i++)
            {
                double normal = (x[row + i] - mean) * r;
                meanGradient += weight[i] * dy[row + i] / dimension;
                meanProduct += weight[i] * dy[row + i] * normal / dimension;
                dWeight[i] += dy[row + i] * normal;
                dBias[i] += dy[row + i];
            }

            for (int i = 0; i < dimension; i++)
            {
                double normal = (x[row + i] - mean) * r;
                dx[row + i] = r * ((weight[i] * dy[row + i]) - meanGradient - (normal * meanProduct));
            }
        }

        return (dx, dWeight, dBias);
    }

    private static (double Mean, double Inverse) Moments(double[] x, int row, int dimension, double epsilon)
    {
        double mean = 0;
        for (int i = 0; i < dimension; i++)
        {
            mean += x[row + i];
        }

        mean /= dimension;
        double variance = 0;
        for (int i = 0; i < dimension; i++)
        {
            variance += (x[row + i] - mean) * (x[row + i] - mean) / dimension;
        }

        return (mean, 1 / Math.Sqrt(variance + epsilon));
    }
}
