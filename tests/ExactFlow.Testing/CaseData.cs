using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Randomness;

namespace ExactFlow.Testing;

/// <summary>The values of an operator case, drawn from its name: the same in every run, at every SIMD level and on every device. All are float32 numbers.</summary>
public static class CaseData
{
    private const ulong Seed = 20_251_212;

    /// <summary>The values of every input.</summary>
    public static double[][] Inputs(OperatorCase operatorCase)
    {
        ArgumentNullException.ThrowIfNull(operatorCase);
        return [.. operatorCase.Inputs.Select(input => Input(operatorCase, input))];
    }

    /// <summary>The values of every input, rounded to the number formats of a run of <paramref name="format"/>.</summary>
    public static double[][] Inputs(OperatorCase operatorCase, DType format)
        => [.. Inputs(operatorCase).Select((values, i) => CaseTensors.FormatOf(operatorCase.Inputs[i], format) == DType.BFloat16 ? Array.ConvertAll(values, BFloat16Bits.Round) : values)];

    /// <summary>Output gradients, standard normal, one array per output; another <paramref name="set"/> gives others.</summary>
    public static double[][] OutputGradients(OperatorCase operatorCase, IReadOnlyList<double[]> outputs, int set = 0)
    {
        ArgumentNullException.ThrowIfNull(operatorCase);
        ArgumentNullException.ThrowIfNull(outputs);
        var gradients = new double[outputs.Count][];
        for (int i = 0; i < gradients.Length; i++)
        {
            var random = new Philox(Seed, Philox.StreamOf($"{operatorCase}/gradient of output {i}, set {set}"));
            gradients[i] = new double[outputs[i].Length];
            for (int j = 0; j < gradients[i].Length; j++)
            {
                gradients[i][j] = (float)random.Normal((ulong)j);
            }
        }

        return gradients;
    }

    private static double[] Input(OperatorCase operatorCase, CaseInput input)
    {
        if (input.Explicit is { } values)
        {
            return Array.ConvertAll(values, value => (double)(float)value);
        }

        var random = new Philox(Seed, Philox.StreamOf($"{operatorCase}/{input.Name}"));
        var drawn = new double[input.Shape.Count];
        for (int i = 0; i < drawn.Length; i++)
        {
            ulong position = (ulong)i;
            drawn[i] = input.Values switch
            {
                CaseValues.Normal => (float)(input.Scale * random.Normal(position)),
                CaseValues.Uniform => (float)(input.Scale * random.Uniform(position)),
                CaseValues.Negative => (float)(-input.Scale * random.Uniform(position)),
                CaseValues.Constant => (float)input.Scale,
                _ => random.Below(position, (int)input.Scale),
            };
        }

        return drawn;
    }
}
