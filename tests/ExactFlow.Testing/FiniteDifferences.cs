using ExactFlow.Operators;
using ExactFlow.Tensors.Randomness;

namespace ExactFlow.Testing;

/// <summary>Compares a float64 gradient with central differences of the float64 function it claims to be the gradient of.</summary>
public static class FiniteDifferences
{
    private const int CoordinatesPerInput = 6;

    /// <summary>Relative error allowed: the fourth-order formula with a step of 1e-4 leaves about 1e-10, curvature at odd places some more.</summary>
    private const double Tolerance = 1e-6;

    /// <summary>Checks a sample of coordinates of every differentiable input.</summary>
    /// <returns>A sentence for every coordinate that disagrees; empty when all is well.</returns>
    public static IReadOnlyList<string> Disagreements(OperatorCase operatorCase)
    {
        ArgumentNullException.ThrowIfNull(operatorCase);
        double[][] inputs = CaseData.Inputs(operatorCase);
        double[][] outputGradients = CaseData.OutputGradients(operatorCase, operatorCase.Reference(inputs));
        IReadOnlyList<double[]?> gradients = operatorCase.ReferenceGradient(inputs, outputGradients);
        var disagreements = new List<string>();
        for (int i = 0; i < inputs.Length; i++)
        {
            CaseInput input = operatorCase.Inputs[i];
            if (!input.Differentiable)
            {
                continue;
            }

            double[] gradient = gradients[i] ?? throw new InvalidOperationException($"{operatorCase}: the reference gives no gradient of {input.Name}.");
            if (gradient.Length != inputs[i].Length)
            {
                throw new InvalidOperationException($"{operatorCase}: the reference gives {gradient.Length} gradients of {input.Name}, which has {inputs[i].Length} elements.");
            }

            foreach (int coordinate in Sample(operatorCase, input, inputs[i].Length))
            {
                (double difference, double noise) = Differentiate(operatorCase, inputs, outputGradients, i, coordinate);
                double scale = Math.Max(Math.Abs(gradient[coordinate]), RootMeanSquare(gradient));
                if (!(Math.Abs(difference - gradient[coordinate]) <= (Tolerance * scale) + noise))
                {
                    disagreements.Add(
                        $"{operatorCase}: gradient of {input.Name}[{coordinate}] is {gradient[coordinate]:R} in the reference but {difference:R} by differences (rounding {noise:G2}).");
                }
            }
        }

        return disagreements;
    }

    /// <summary>The derivative of sum(output * outputGradient) by one coordinate: (8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / 12h, and a bound of its rounding.</summary>
    private static (double Derivative, double Noise) Differentiate(
        OperatorCase operatorCase, double[][] inputs, double[][] outputGradients, int input, int coordinate)
    {
        double value = inputs[input][coordinate];
        double spread = RootMeanSquare(inputs[input]);

        // A step of the coordinate's own size; of that of its neighbours, but at most 1, where it is smaller; tiny where all are zero, as epsilons are there.
        double size = spread > 0 ? Math.Max(Math.Abs(value), Math.Min(0.1 * spread, 1)) : 0.01;
        double step = 1e-4 * size;
        double magnitude = 0;

        double At(double offset)
        {
            inputs[input][coordinate] = value + offset;
            double sum = 0;
            IReadOnlyList<double[]> outputs = operatorCase.Reference(inputs);
            for (int output = 0; output < outputs.Count; output++)
            {
                for (int i = 0; i < outputs[output].Length; i++)
                {
                    sum += outputs[output][i] * outputGradients[output][i];
                    magnitude = Math.Max(magnitude, Math.Abs(sum));
                }
            }

            inputs[input][coordinate] = value;
            return sum;
        }

        double near = At(step) - At(-step);
        double far = At(2 * step) - At(-2 * step);
        return (((8 * near) - far) / (12 * step), 1e-13 * magnitude / step);
    }

    /// <summary>The first and the last coordinate and some between.</summary>
    private static IEnumerable<int> Sample(OperatorCase operatorCase, CaseInput input, int length)
    {
        if (length <= CoordinatesPerInput)
        {
            return Enumerable.Range(0, length);
        }

        var random = new Philox(1, Philox.StreamOf($"{operatorCase}/{input.Name}/coordinates"));
        return Enumerable.Range(0, CoordinatesPerInput - 2).Select(i => random.Below((ulong)i, length)).Append(0).Append(length - 1);
    }

    private static double RootMeanSquare(double[] values) => values.Length == 0 ? 0 : Math.Sqrt(values.Sum(value => value * value) / values.Length);
}
