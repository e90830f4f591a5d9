namespace ExactFlow.Operators;

public static partial class Split
{
    /// <summary>part_p[row, i] = x[row, sum of the sizes before p + i].</summary>
    internal static double[][] Reference(double[] x, int[] sizes)
    {
        int dimension = sizes.Sum();
        int rows = x.Length / dimension;
        var parts = new double[sizes.Length][];
        int column = 0;
        for (int part = 0; part < sizes.Length; part++)
        {
            parts[part] = new double[rows * sizes[part]];
            for (int row = 0; row < rows; row++)
            {
                Array.Copy(x, (row * dimension) + column, parts[part], row * sizes[part], sizes[part]);
            }

            column += sizes[part];
        }

        return parts;
    }

    /// <summary>The parts' gradients side by side.</summary>
    internal static double[] ReferenceGradient(IReadOnlyList<double[]> gradients, int[] sizes)
    {
        int dimension = sizes.Sum();
        int rows = gradients[0].Length / sizes[0];
        var dx = new double[rows * dimension];
        int column = 0;
        for (int part = 0; part < sizes.Length; part++)
        {
            for (int row = 0; row < rows; row++)
            {
                Array.Copy(gradients[part], row * sizes[part], dx, (row * dimension) + column, sizes[part]);
            }

            column += sizes[part];
        }

        return dx;
    }
}
