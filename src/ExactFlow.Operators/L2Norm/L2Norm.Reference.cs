namespace ExactFlow.Operators;

public static partial class L2Norm
{
    /// <summary>y_i = x_i r with r = (sum(x^2) + epsilon)^(-1/2), row by row.</summary>
    internal static double[] Reference(double[] x, int dimension, double epsilon)
    {
        var y = new double[x.Length];
        for (int row = 0; row < x.Length; row += dimension)
        {
            double r = InverseLength(x, row, dimension, epsilon);
            for (int i = 0; i < dimension; i++)
            {
                y[row + i] = x[row + i] * r;
            }
        }

        return y;
    }

    /// <summary>dx_i = r (dy_i - x_i r^2 sum_j(dy_j x_j)).</summary>
    internal static double[] ReferenceGradient(double[] x, int dimension, double epsilon, double[] dy)
    {
        var dx = new double[x.Length];
        for (int row = 0; row < x.Length; row += dimension)
        {
            double r = InverseLength(x, row, dimension, epsilon);
            double dot = 0;
            for (int i = 0; i < dimension; i++)
            {
                dot += dy[row + i] * x[row + i];
            }

            for (int i = 0; i < dimension; i++)
            {
                dx[row + i] = r * (dy[row + i] - (x[row + i] * r * r * dot));
            }
        }

        return dx;
    }

    private static double InverseLength(double[] x, int row, int dimension, double epsilon)
    {
        double squares = 0;
        for (int i = 0; i < dimension; i++)
        {
            squares += x[row + i] * x[row + i];
        }

        return 1 / Math.Sqrt(squares + epsilon);
    }
}
