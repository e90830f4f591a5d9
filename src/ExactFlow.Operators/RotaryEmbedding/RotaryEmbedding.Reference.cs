namespace ExactFlow.Operators;

public static partial class RotaryEmbedding
{
    /// <summary>
    /// With angle a = position * theta^(-2i/dim): y_i = x_i cos a - x_{i+dim/2} sin a, y_{i+dim/2} = x_{i+dim/2} cos a + x_i sin a, in float64.
    /// The gradient of x is the same rotation of the gradient of y with <paramref name="sign"/> -1.
    /// </summary>
    /// <param name="x">[tokens, heads, dim].</param>
    /// <param name="positions">The position of each token.</param>
    /// <param name="heads">The extent `heads`.</param>
    /// <param name="dim">The extent `dim`.</param>
    /// <param name="theta">Base of the frequencies.</param>
    /// <param name="sign">1 to rotate forwards, -1 backwards.</param>
    public static double[] Reference(double[] x, IReadOnlyList<int> positions, int heads, int dim, double theta, int sign = 1)
    {
        var y = new double[x.Length];
        int half = dim / 2;
        for (int row = 0; row < positions.Count * heads; row++)
        {
            for (int i = 0; i < half; i++)
            {
                double angle = sign * positions[row / heads] * Math.Pow(theta, -2.0 * i / dim);
                double low = x[(row * dim) + i];
                double high = x[(row * dim) + i + half];
                y[(row * dim) + i] = (low * Math.Cos(angle)) - (high * Math.Sin(angle));
                y[(row * dim) + i + half] = (high * Math.Cos(angle)) + (low * Math.Sin(angle));
            }
        }

        return y;
    }
}
