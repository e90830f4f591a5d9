namespace ExactFlow.Operators;

public static partial class GradientNorm
{
    /// <summary>sqrt(sum over all arrays of g^2) in float64.</summary>
    public static double Reference(IEnumerable<double[]> gradients) => Math.Sqrt(gradients.Sum(gradient => gradient.Sum(value => value * value)));
}
