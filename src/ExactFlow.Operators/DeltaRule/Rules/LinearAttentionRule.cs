namespace ExactFlow.Operators;

/// <summary>Linear attention without normaliser (arXiv 2006.16236): nothing is erased, everything is written with weight 1.</summary>
internal sealed class LinearAttentionRule() : DeltaRuleKind("linear_attention")
{
    public override bool UsesBeta => false;

    public override bool Erases => false;

    public override DeltaCoefficients Evaluate(double beta, double lambda, double logDecay) => new(0, 0, 1);

    public override DeltaCoefficientSlopes Differentiate(double beta, double lambda, double logDecay) => default;
}
