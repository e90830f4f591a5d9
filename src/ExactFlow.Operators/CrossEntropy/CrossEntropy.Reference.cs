namespace ExactFlow.Operators;

public static partial class CrossEntropy
{
    /// <summary>Per token, log sum_w exp(h . W_w) - h . W_target in float64; 0 where ignored.</summary>
    /// <param name="hidden">[tokens, dim].</param>
    /// <param name="headWeight">[vocabulary, dim].</param>
    /// <param name="targets">[tokens].</param>
    /// <param name="dim">The extent `dim`.</param>
    /// <param name="ignoreIndex">The target value that is left out.</param>
    public static double[] ReferencePerToken(double[] hidden, double[] headWeight, double[] targets, int dim, int ignoreIndex = DefaultIgnoreIndex)
    {
        var losses = new double[targets.Length];
        for (int token = 0; token < targets.Length; token++)
        {
            if ((int)targets[token] != ignoreIndex)
            {
                double[] logits = Linear.Reference(hidden.AsSpan(token * dim, dim).ToArray(), headWeight, null, dim);
                losses[token] = LogSumExp(logits) - logits[(int)targets[token]];
            }
        }

        return losses;
    }

    /// <summary>The mean of <see cref="ReferencePerToken"/> over the targets that are not ignored, 0 without any.</summary>
    public static double Reference(double[] hidden, double[] headWeight, double[] targets, int dim, int ignoreIndex = DefaultIgnoreIndex)
        => ReferencePerToken(hidden, headWeight, targets, dim, ignoreIndex).Sum() / Math.Max(1, targets.Count(t => (int)t != ignoreIndex));

    /// <summary>With p = softmax(h W^T) and n targets: dlogits = (p - onehot(target)) / n, dh = dlogits W, dW = dlogits^T h, all times the gradient of the loss.</summary>
    public static (double[] Hidden, double[] HeadWeight) ReferenceGradient(
        double[] hidden, double[] headWeight, double[] targets, int dim, double lossGradient, int ignoreIndex = DefaultIgnoreIndex)
    {
        int vocabulary = headWeight.Length / dim;
        int counted = targets.Count(t => (int)t != ignoreIndex);
        double[] gradient = Linear.Reference(hidden, headWeight, null, dim);
        for (int token = 0; token < targets.Length; token++)
        {
            Span<double> row = gradient.AsSpan(token * vocabulary, vocabulary);
            if ((int)targets[token] == ignoreIndex)
            {
                row.Clear();
                continue;
            }

            double logSum = LogSumExp(row);
            for (int word = 0; word < vocabulary; word++)
            {
                double probability = Math.Exp(row[word] - logSum);
                row[word] = lossGradient / counted * (probability - (word == (int)targets[token] ? 1 : 0));
            }
        }

        (double[] gradHidden, double[] gradWeight, _) = Linear.ReferenceGradient(hidden, headWeight, gradient, dim);
        return (gradHidden, gradWeight);
    }

    private static double LogSumExp(ReadOnlySpan<double> logits)
    {
        double max = double.NegativeInfinity;
        foreach (double logit in logits)
        {
            max = Math.Max(max, logit);
        }

        double sum = 0;
        foreach (double logit in logits)
        {
            sum += Math.Exp(logit - max);
        }

        return max + Math.Log(sum);
    }
}
