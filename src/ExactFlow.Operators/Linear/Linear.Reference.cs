namespace ExactFlow.Operators;

public static partial class Linear
{
    /// <summary>y[r, o] = sum_i x[r, i] w[o, i] + b[o] in float64.</summary>
    /// <param name="x">[rows, in].</param>
    /// <param name="weight">[out, in].</param>
    /// <param name="bias">[out], or null.</param>
    /// <param name="inputs">The extent `in`.</param>
    public static double[] Reference(double[] x, double[] weight, double[]? bias, int inputs)
    {
        int outputs = weight.Length / inputs;
        int rows = x.Length / inputs;
        var y = new double[rows * outputs];
        for (int r = 0; r < rows; r++)
        {
            for (int o = 0; o < outputs; o++)
            {
                double sum = bias?[o] ?? 0;
                for (int i = 0; i < inputs; i++)
                {
                    sum += x[(r * inputs) + i] * weight[(o * inputs) + i];
                }

                y[(r * outputs) + o] = sum;
            }
        }

        return y;
    }

    /// <summary>dx = dy W, dW = dy^T x, db = sum over rows of dy, in float64.</summary>
    public static (double[] X, double[] Weight, double[] Bias) ReferenceGradient(double[] x, double[] weight, double[] outputGradient, int inputs)
    {
        int outputs = weight.Length / inputs;
        int rows = x.Length / inputs;
        var gradX = new double[x.Length];
        var gradWeight = new double[weight.Length];
        var gradBias = new double[outputs];
        for (int r = 0; r < rows; r++)
        {
            for (int o = 0; o < outputs; o++)
            {
                double g = outputGradient[(r * outputs) + o];
                gradBias[o] += g;
                for (int i = 0; i < inputs; i++)
                {
                    gradX[(r * inputs) + i] += g * weight[(o * inputs) + i];
                    gradWeight[(o * inputs) + i] += g * x[(r * inputs) + i];
                }
            }
        }

        return (gradX, gradWeight, gradBias);
    }
}
