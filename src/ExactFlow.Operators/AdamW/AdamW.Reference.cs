namespace ExactFlow.Operators;

public sealed partial class AdamW
{
    /// <summary>
    /// One step of one parameter in float64, t = <paramref name="step"/> counted from 1:
    /// p -= rate decay p; m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; p -= rate (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + epsilon).
    /// </summary>
    public static void Reference(double[] value, double[] gradient, double[] first, double[] second, int step, double learningRate, AdamWOptions options, bool decays)
    {
        ArgumentNullException.ThrowIfNull(options);
        for (int i = 0; i < value.Length; i++)
        {
            double g = gradient[i];
            value[i] -= decays ? learningRate * options.WeightDecay * value[i] : 0;
            first[i] = (options.Beta1 * first[i]) + ((1 - options.Beta1) * g);
            second[i] = (options.Beta2 * second[i]) + ((1 - options.Beta2) * g * g);
            double mean = first[i] / (1 - Math.Pow(options.Beta1, step));
            double square = second[i] / (1 - Math.Pow(options.Beta2, step));
            value[i] -= learningRate * mean / (Math.Sqrt(square) + options.Epsilon);
        }
    }
}
