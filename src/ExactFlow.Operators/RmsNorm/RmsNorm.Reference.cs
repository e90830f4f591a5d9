namespace ExactFlow.Operators;

public static partial class RmsNorm
{
    /// <summary>y_i = x_i r w_i with r = (mean(x^2) + epsilon)^(-1/2), row by row.</summary>
    internal static double[] Reference(double[] x, double[] weight, double epsilon)
    {
        int dimension = weight.Length;
        var y = new double[x.Length];
        for (int row = 0; row < x.Length; row += dimension)
        {
            double r = InverseRootMeanSquare(x, row, dimension, epsilon);
            for (int i = 0; i < dimension; i++)
            {
                y[row + i] = x[row + i] * r * weight[i];
            }
        }

        return y;
    }

    /// <summary>dx_i = r (w_i dy_i - x_i r^2 mean_j(w_j dy_j x_j)), dw_i = sum over rows of dy_i x_i r.</summary>
    internal static (double[] X, double[] Weight) ReferenceGradient(double[] x, double[] weight, double epsilon, double[] dy)
    {
        int dimension = weight.Length;
        var dx = new double[x.Length];
        var dWeight = new double[dimension];
        for (int row = 0; row < x.Length; row += dimension)
        {
            double r = InverseRootMeanSquare(x, row, dimension, epsilon);
            double mean = 0;
            for (int i = 0; i < dimension; i++)
            {
                mean += weight[i] * dy[row + i] * x[row + i] / dimension;
            }

            for (int i = 0; i < dimension; i++)
            {
                dx[row + i] = r * ((weight[i] * dy[row + i]) - (x[row + i] * r * r * mean));
                dWeight[i] += dy[row + i] * x[row + i] * r;
            }
        }

        return (dx, dWeight);
    }

    private static double InverseRootMeanSquare(double[] x, int row, int dimension, double epsilon)
    {
        double squares = 0;
        for (int i = 0; i < dimension; i++)
        {
            squares += x[row + i] * x[row + i];
        }

        return 1 / Math.Sqrt((squares / dimension) + epsilon);
    }
}
