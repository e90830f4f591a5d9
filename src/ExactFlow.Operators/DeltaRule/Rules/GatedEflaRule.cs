namespace ExactFlow.Operators;

/// <summary>
/// Gated EFLA (arXiv 2512.12602, Eq. 68): with <c>d = 1 - alpha</c>, <c>r = alpha beta</c>, <c>eta = d + r lambda</c>,
/// <c>g = e^-d</c>, <c>e = (1 - e^{-r lambda}) / lambda = r phi1(r lambda)</c>, <c>w = beta phi1(eta)</c>. Its decay is never below e^-1.
/// </summary>
internal sealed class GatedEflaRule() : DeltaRuleKind("gated_efla")
{
    public override bool Decays => true;

    public override DeltaCoefficients Evaluate(double beta, double lambda, double logDecay)
    {
        double d = FlowFunctions.OneMinusExp(logDecay);
        double r = Math.Exp(logDecay) * beta;
        double erased = r * lambda;
        return new DeltaCoefficients(-d, r * FlowFunctions.Phi1(erased), beta * FlowFunctions.Phi1(d + erased));
    }

    public override DeltaCoefficientSlopes Differentiate(double beta, double lambda, double logDecay)
    {
        double alpha = Math.Exp(logDecay);
        double r = alpha * beta;
        double erased = r * lambda;
        double eta = FlowFunctions.OneMinusExp(logDecay) + erased;
        double decay = Math.Exp(-erased);
        double slope = beta * FlowFunctions.Phi1Slope(eta);
        return new DeltaCoefficientSlopes
        {
            EraseByBeta = alpha * decay,
            EraseByLambda = r * r * FlowFunctions.Phi1Slope(erased, decay),
            EraseByLogDecay = r * decay,
            WriteByBeta = FlowFunctions.Phi1(eta) + (slope * alpha * lambda),
            WriteByLambda = slope * r,
            WriteByLogDecay = slope * (erased - alpha),
            LogDecayByLogDecay = alpha,
        };
    }
}
