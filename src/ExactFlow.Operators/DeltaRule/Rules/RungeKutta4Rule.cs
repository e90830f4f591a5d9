namespace ExactFlow.Operators;

/// <summary>The classical four-stage Runge-Kutta step: <c>a = beta (1 - x/2 + x^2/6 - x^3/24)</c>. Stable for x up to 2.785.</summary>
internal sealed class RungeKutta4Rule() : IntegratorRule("rk4")
{
    protected override double Step(double beta, double lambda)
    {
        double x = beta * lambda;
        return beta * (1 - (x / 2 * (1 - (x / 3 * (1 - (x / 4))))));
    }

    protected override (double ByBeta, double ByLambda) StepSlopes(double beta, double lambda)
    {
        double x = beta * lambda;
        return (1 - (x * (1 - (x / 2 * (1 - (x / 3))))), beta * beta * (-0.5 + (x / 3) - (x * x / 8)));
    }
}
