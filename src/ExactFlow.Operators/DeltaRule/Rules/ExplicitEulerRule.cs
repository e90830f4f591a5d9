namespace ExactFlow.Operators;

/// <summary>Explicit Euler, the delta rule on raw keys: <c>a = beta</c>. Stable for x up to 2.</summary>
internal sealed class ExplicitEulerRule() : IntegratorRule("explicit_euler")
{
    protected override double Step(double beta, double lambda) => beta;

    protected override (double ByBeta, double ByLambda) StepSlopes(double beta, double lambda) => (1, 0);
}
