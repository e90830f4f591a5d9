namespace ExactFlow.Operators;

/// <summary>
/// The exact unit-time flow of <c>dS/dt = gamma S - beta k k^T S + beta k v^T</c> with <c>gamma = log_decay</c>:
/// <c>g = e^gamma</c>, <c>e = beta phi1(x)</c>, <c>w = beta phi1(x - gamma)</c>. Unlike Gated EFLA it can forget completely.
/// </summary>
internal sealed class LogRateGatedEflaRule() : DeltaRuleKind("log_rate_gated_efla")
{
    public override bool Decays => true;

    public override DeltaCoefficients Evaluate(double beta, double lambda, double logDecay)
    {
        double x = beta * lambda;
        return new DeltaCoefficients(logDecay, beta * FlowFunctions.Phi1(x), beta * FlowFunctions.Phi1(x - logDecay));
    }

    public override DeltaCoefficientSlopes Differentiate(double beta, double lambda, double logDecay)
    {
        double x = beta * lambda;
        double decay = Math.Exp(-x);
        double slope = beta * FlowFunctions.Phi1Slope(x - logDecay);
        return new DeltaCoefficientSlopes
        {
            EraseByBeta = decay,
            EraseByLambda = beta * beta * FlowFunctions.Phi1Slope(x, decay),
            WriteByBeta = FlowFunctions.Phi1(x - logDecay) + (slope * lambda),
            WriteByLambda = slope * beta,
            WriteByLogDecay = -slope,
            LogDecayByLogDecay = 1,
        };
    }
}
