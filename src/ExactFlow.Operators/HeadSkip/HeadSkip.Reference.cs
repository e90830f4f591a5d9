namespace ExactFlow.Operators;

public static unsafe partial class HeadSkip
{
    /// <summary>y[..., h, d] = output[..., h, d] + weight[h] x[..., h, d], row-major, in float64.</summary>
    public static double[] Reference(double[] output, double[] x, double[] weight, int dim)
    {
        var y = new double[output.Length];
        for (int i = 0; i < y.Length; i++)
        {
            y[i] = output[i] + (weight[i / dim % weight.Length] * x[i]);
        }

        return y;
    }

    /// <summary>do = g, dx = weight[h] g, dweight[h] = sum of g x.</summary>
    public static (double[] Output, double[] X, double[] Weight) ReferenceGradient(double[] x, double[] weight, double[] gradient, int dim)
    {
        var gradX = new double[x.Length];
        var gradWeight = new double[weight.Length];
        for (int i = 0; i < x.Length; i++)
        {
            int head = i / dim % weight.Length;
            gradX[i] = weight[head] * gradient[i];
            gradWeight[head] += gradient[i] * x[i];
        }

        return ((double[])gradient.Clone(), gradX, gradWeight);
    }
}
