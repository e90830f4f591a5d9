namespace ExactFlow.Operators;

public static partial class SoftmaxAttention
{
    /// <summary>The sizes of a problem, for the reference.</summary>
    /// <param name="Batch">Rows.</param>
    /// <param name="Time">Tokens of k and v.</param>
    /// <param name="Heads">Query heads.</param>
    /// <param name="KvHeads">Key and value heads.</param>
    /// <param name="Dim">Width of q and k.</param>
    /// <param name="ValueDim">Width of v.</param>
    /// <param name="Scale">Factor of the scores.</param>
    /// <param name="Offsets">Documents of a packed row, or null.</param>
    /// <param name="Queries">Tokens of q, the last ones of <paramref name="Time"/>.</param>
    public sealed record Sizes(int Batch, int Time, int Heads, int KvHeads, int Dim, int ValueDim, double Scale, int[]? Offsets, int Queries);

    /// <summary>o_t = sum_s p_ts v_s, p_t = softmax over the document's tokens s up to t of scale q_t . k_s, in float64.</summary>
    public static double[] Reference(double[] q, double[] k, double[] v, Sizes sizes)
    {
        var output = new double[sizes.Batch * sizes.Queries * sizes.Heads * sizes.ValueDim];
        ForEachQuery(sizes, (queryRow, first, last, keyRow) =>
        {
            double[] weights = Weights(q, k, sizes, queryRow, first, last, keyRow);
            for (int s = first; s <= last; s++)
            {
                for (int i = 0; i < sizes.ValueDim; i++)
                {
                    output[(queryRow * sizes.ValueDim) + i] += weights[s - first] * v[(keyRow(s) * sizes.ValueDim) + i];
                }
            }
        });
        return output;
    }

    /// <summary>dv_s += p_ts do_t; dp_ts = do_t . v_s; dz_ts = p_ts (dp_ts - sum_r p_tr dp_tr); dq_t += scale dz_ts k_s; dk_s += scale dz_ts q_t.</summary>
    public static (double[] Q, double[] K, double[] V) ReferenceGradient(double[] q, double[] k, double[] v, double[] outputGradient, Sizes sizes)
    {
        (int dim, int valueDim) = (sizes.Dim, sizes.ValueDim);
        var gradQ = new double[q.Length];
        var gradK = new double[k.Length];
        var gradV = new double[v.Length];
        ForEachQuery(sizes, (queryRow, first, last, keyRow) =>
        {
            double[] weights = Weights(q, k, sizes, queryRow, first, last, keyRow);
            var weightGradients = new double[weights.Length];
            double mean = 0;
            for (int s = first; s <= last; s++)
            {
                for (int i = 0; i < valueDim; i++)
                {
                    double g = outputGradient[(queryRow * valueDim) + i];
                    gradV[(keyRow(s) * valueDim) + i] += weights[s - first] * g;
                    weightGradients[s - first] += g * v[(keyRow(s) * valueDim) + i];
                }

                mean += weights[s - first] * weightGradients[s - first];
            }

            for (int s = first; s <= last; s++)
            {
                double scoreGradient = sizes.Scale * weights[s - first] * (weightGradients[s - first] - mean);
                for (int i = 0; i < dim; i++)
                {
                    gradQ[(queryRow * dim) + i] += scoreGradient * k[(keyRow(s) * dim) + i];
                    gradK[(keyRow(s) * dim) + i] += scoreGradient * q[(queryRow * dim) + i];
                }
            }
        });
        return (gradQ, gradK, gradV);
    }

    /// <summary>Calls back with each query's row, the first and last token it sees, and the row of k and v of a token.</summary>
    private static void ForEachQuery(Sizes sizes, Action<int, int, int, Func<int, int>> visit)
    {
        for (int row = 0; row < sizes.Batch * sizes.Queries * sizes.Heads; row++)
        {
            int head = row % sizes.Heads;
            int token = (row / sizes.Heads % sizes.Queries) + sizes.Time - sizes.Queries;
            int batch = row / sizes.Heads / sizes.Queries;
            int kvHead = head / (sizes.Heads / sizes.KvHeads);
            int first = sizes.Offsets?.Last(offset => offset <= token) ?? 0;
            visit(row, first, token, s => (((batch * sizes.Time) + s) * sizes.KvHeads) + kvHead);
        }
    }

    private static double[] Weights(double[] q, double[] k, Sizes sizes, int queryRow, int first, int last, Func<int, int> keyRow)
    {
        var scores = new double[last - first + 1];
        for (int s = first; s <= last; s++)
        {
            for (int i = 0; i < sizes.Dim; i++)
            {
                scores[s - first] += sizes.Scale * q[(queryRow * sizes.Dim) + i] * k[(keyRow(s) * sizes.Dim) + i];
            }
        }

        double max = scores.Max();
        double sum = scores.Sum(score => Math.Exp(score - max));
        return [.. scores.Select(score => Math.Exp(score - max) / sum)];
    }
}
