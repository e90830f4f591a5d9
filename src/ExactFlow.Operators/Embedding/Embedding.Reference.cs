namespace ExactFlow.Operators;

public static partial class Embedding
{
    /// <summary>y[i, :] = table[ids[i], :].</summary>
    internal static double[] Reference(double[] ids, double[] table, int dimension)
    {
        var y = new double[ids.Length * dimension];
        for (int i = 0; i < ids.Length; i++)
        {
            Array.Copy(table, (int)ids[i] * dimension, y, i * dimension, dimension);
        }

        return y;
    }

    /// <summary>dtable[id, :] = sum of dy[i, :] over all i with ids[i] = id.</summary>
    internal static double[] ReferenceGradient(double[] ids, int tableLength, int dimension, double[] dy)
    {
        var dTable = new double[tableLength];
        for (int i = 0; i < ids.Length; i++)
        {
            for (int d = 0; d < dimension; d++)
            {
                dTable[((int)ids[i] * dimension) + d] += dy[(i * dimension) + d];
            }
        }

        return dTable;
    }
}
