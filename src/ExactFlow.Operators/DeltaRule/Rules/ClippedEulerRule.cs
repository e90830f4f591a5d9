namespace ExactFlow.Operators;

/// <summary>The explicit Euler step on raw keys, cut off where it would expand the state: <c>a = min(beta, 2 / lambda)</c>. Stable for every x.</summary>
internal sealed class ClippedEulerRule() : IntegratorRule("clipped_euler")
{
    private const double Limit = 2;

    protected override double Step(double beta, double lambda) => beta * lambda <= Limit ? beta : Limit / lambda;

    protected override (double ByBeta, double ByLambda) StepSlopes(double beta, double lambda)
        => beta * lambda <= Limit ? (1, 0) : (0, -Limit / (lambda * lambda));
}
