namespace ExactFlow.Operators;

/// <summary>The exact flow (arXiv 2512.12602, Eq. 15): <c>a = (1 - e^{-beta lambda}) / lambda = beta phi1(x)</c>. Stable for every x; the eigenvalue along k is e^-x.</summary>
internal sealed class EflaRule() : IntegratorRule("efla")
{
    protected override double Step(double beta, double lambda) => beta * FlowFunctions.Phi1(beta * lambda);

    protected override (double ByBeta, double ByLambda) StepSlopes(double beta, double lambda)
    {
        double x = beta * lambda;
        double decay = Math.Exp(-x);
        return (decay, beta * beta * FlowFunctions.Phi1Slope(x, decay));
    }
}
