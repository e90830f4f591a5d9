namespace ExactFlow.Operators;

/// <summary>The trapezoid rule (Cayley transform): <c>a = beta / (1 + x/2)</c>. Stable for every x, with negative eigenvalues for x above 2.</summary>
internal sealed class CayleyRule() : IntegratorRule("cayley")
{
    protected override double Step(double beta, double lambda) => beta / (1 + (beta * lambda / 2));

    protected override (double ByBeta, double ByLambda) StepSlopes(double beta, double lambda)
    {
        double damping = 1 / (1 + (beta * lambda / 2));
        return (damping * damping, -beta * beta / 2 * damping * damping);
    }
}
