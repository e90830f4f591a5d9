namespace ExactFlow.Operators;

/// <summary>The delta rule on keys of unit length with a decaying state, <c>g = alpha</c> (arXiv 2412.06464).</summary>
internal sealed class GatedDeltaNetRule() : DeltaNetRule("gated_deltanet")
{
    public override bool Decays => true;

    public override DeltaCoefficients Evaluate(double beta, double lambda, double logDecay) => base.Evaluate(beta, lambda, 0) with { LogDecay = logDecay };

    public override DeltaCoefficientSlopes Differentiate(double beta, double lambda, double logDecay) => base.Differentiate(beta, lambda, 0) with { LogDecayByLogDecay = 1 };
}
