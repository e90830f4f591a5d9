namespace ExactFlow.Operators;

/// <summary>
/// A rule that integrates <c>dS/dt = -k k^T S + k v^T</c> over a time beta: it erases as much as it writes, <c>e = w = a(beta, lambda)</c>,
/// with <c>a = (1 - R(-x)) / lambda</c>, <c>x = beta lambda</c>, for the integrator's stability function R. No decay.
/// </summary>
internal abstract class IntegratorRule(string name) : DeltaRuleKind(name)
{
    public sealed override DeltaCoefficients Evaluate(double beta, double lambda, double logDecay)
    {
        double step = Step(beta, lambda);
        return new DeltaCoefficients(0, step, step);
    }

    public sealed override DeltaCoefficientSlopes Differentiate(double beta, double lambda, double logDecay)
    {
        (double byBeta, double byLambda) = StepSlopes(beta, lambda);
        return new DeltaCoefficientSlopes { EraseByBeta = byBeta, WriteByBeta = byBeta, EraseByLambda = byLambda, WriteByLambda = byLambda };
    }

    /// <summary>a(beta, lambda).</summary>
    protected abstract double Step(double beta, double lambda);

    /// <summary>da/dbeta and da/dlambda.</summary>
    protected abstract (double ByBeta, double ByLambda) StepSlopes(double beta, double lambda);
}
