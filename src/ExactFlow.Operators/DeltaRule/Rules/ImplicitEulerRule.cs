namespace ExactFlow.Operators;

/// <summary>Implicit Euler, as in Longhorn (arXiv 2407.14207) and normalised least mean squares: <c>a = beta / (1 + x)</c>. Stable for every x.</summary>
internal sealed class ImplicitEulerRule() : IntegratorRule("implicit_euler")
{
    protected override double Step(double beta, double lambda) => beta / (1 + (beta * lambda));

    protected override (double ByBeta, double ByLambda) StepSlopes(double beta, double lambda)
    {
        double damping = 1 / (1 + (beta * lambda));
        return (damping * damping, -beta * beta * damping * damping);
    }
}
