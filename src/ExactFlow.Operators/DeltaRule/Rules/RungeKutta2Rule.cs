namespace ExactFlow.Operators;

/// <summary>A two-stage Runge-Kutta step: <c>a = beta (1 - x/2)</c>. Stable for x up to 2.</summary>
internal sealed class RungeKutta2Rule() : IntegratorRule("rk2")
{
    protected override double Step(double beta, double lambda) => beta * (1 - (beta * lambda / 2));

    protected override (double ByBeta, double ByLambda) StepSlopes(double beta, double lambda) => (1 - (beta * lambda), -beta * beta / 2);
}
