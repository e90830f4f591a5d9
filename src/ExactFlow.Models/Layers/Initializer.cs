using ExactFlow.Tensors.Randomness;

namespace ExactFlow.Models.Layers;

/// <summary>The initial value of one element of a parameter: a pure function of the parameter's random stream and the element's position.</summary>
/// <param name="random">The stream of the parameter's name.</param>
/// <param name="position">Row-major position of the element.</param>
public delegate double Initializer(Philox random, ulong position);

/// <summary>How the parameters of the models start.</summary>
public static class Initializers
{
    private const double SmallestRate = 1e-3;
    private const double SmallestTimeStep = 1e-3;
    private const double LargestTimeStep = 0.1;
    private const double TimeStepFloor = 1e-4;

    /// <summary>All ones: norm weights, Mamba-2's skip.</summary>
    public static Initializer Ones { get; } = static (_, _) => 1;

    /// <summary>All zeros: biases.</summary>
    public static Initializer Zeros { get; } = static (_, _) => 0;

    /// <summary>
    /// <c>dt_bias</c> of the decay and of Mamba-2's step: the inverse softplus of a time step drawn log-uniformly from [0.001, 0.1], no smaller than 1e-4.
    /// </summary>
    public static Initializer TimeStepBias { get; } = static (random, position) =>
    {
        double step = Math.Exp(random.Uniform(position, Math.Log(SmallestTimeStep), Math.Log(LargestTimeStep)));
        return InverseSoftplus(Math.Max(step, TimeStepFloor));
    };

    /// <summary><c>A_log</c> of the gated rules: the logarithm of a rate uniform in (0, 16), the lower end kept off 0.</summary>
    public static Initializer GateRate { get; } = LogUniform(SmallestRate, 16);

    /// <summary><c>A_log</c> of Mamba-2: the logarithm of a rate uniform in [1, 16).</summary>
    public static Initializer MambaRate { get; } = LogUniform(1, 16);

    /// <summary>Normal with mean 0.</summary>
    public static Initializer Normal(double standardDeviation) => (random, position) => standardDeviation * random.Normal(position);

    /// <summary>Uniform in [-<paramref name="bound"/>, <paramref name="bound"/>).</summary>
    public static Initializer Uniform(double bound) => (random, position) => random.Uniform(position, -bound, bound);

    private static Initializer LogUniform(double low, double high) => (random, position) => Math.Log(random.Uniform(position, low, high));

    /// <summary>x with log(1 + e^x) = y, in the form that loses nothing for small y.</summary>
    private static double InverseSoftplus(double y) => y + Math.Log(-Math.Exp(-y) + 1);
}
