using ExactFlow.Operators;
using ExactFlow.Tensors;

namespace ExactFlow.Training.Experiments.SequentialMnist;

/// <summary>What a model of the study is built with: a rule of the delta family, and how the step size comes about.</summary>
/// <param name="Name">The name on the command line and in results.</param>
/// <param name="Rule">The recurrence.</param>
/// <param name="SoftplusRate">Whether beta is softplus of the token's score instead of its sigmoid.</param>
/// <param name="Description">What it is, for reports.</param>
public sealed record SequentialMnistRule(string Name, DeltaRuleKind Rule, bool SoftplusRate, string Description)
{
    /// <summary>EFLA and DeltaNet as the paper compares them, then the controls that take apart what changes between the two: integrator, key norm, write, rate.</summary>
    public static IReadOnlyList<SequentialMnistRule> All { get; } =
    [
        Of("efla", "exact flow, raw keys"),
        Of("deltanet", "delta rule (explicit Euler), unit keys"),
        Of("unit_key_flow", "exact flow, unit keys"),
        Of("unit_key_flow_scaled_value", "exact flow, unit keys, values over the key's length"),
        Of("implicit_euler", "implicit Euler, raw keys"),
        Of("cayley", "trapezoid (Cayley), raw keys"),
        Of("clipped_euler", "explicit Euler, raw keys, beta at most 2 / |k|^2"),
        Of("rk2", "second-order Runge-Kutta, raw keys"),
        Of("rk4", "fourth-order Runge-Kutta, raw keys"),
        new("efla_softplus", DeltaRuleKind.Efla, SoftplusRate: true, "exact flow, raw keys, beta by softplus"),
    ];

    /// <summary>The rule of a name.</summary>
    /// <exception cref="InvalidInputException">There is none; the sentence lists them.</exception>
    public static SequentialMnistRule Parse(string name)
        => All.FirstOrDefault(rule => rule.Name == name) ?? throw new InvalidInputException($"There is no rule '{name}' in this study; use one of {string.Join(", ", All.Select(rule => rule.Name))}.");

    private static SequentialMnistRule Of(string name, string description) => new(name, DeltaRuleKind.Parse(name), SoftplusRate: false, description);
}
