namespace ExactFlow.Operators;

/// <summary>
/// The delta rule on keys of unit length, <c>k' = k / sqrt(lambda + 1e-6)</c>, with <c>e' = w' = beta</c> (arXiv 2406.06484).
/// For the raw key: <c>e = beta / (lambda + 1e-6)</c>, <c>w = beta / sqrt(lambda + 1e-6)</c>.
/// </summary>
internal class DeltaNetRule : DeltaRuleKind
{
    private const double Epsilon = 1e-6;

    public DeltaNetRule()
        : this("deltanet")
    {
    }

    protected DeltaNetRule(string name)
        : base(name)
    {
    }

    public override DeltaCoefficients Evaluate(double beta, double lambda, double logDecay)
    {
        double square = lambda + Epsilon;
        return new DeltaCoefficients(0, beta / square, beta / Math.Sqrt(square));
    }

    public override DeltaCoefficientSlopes Differentiate(double beta, double lambda, double logDecay)
    {
        double square = lambda + Epsilon;
        double length = Math.Sqrt(square);
        return new DeltaCoefficientSlopes
        {
            EraseByBeta = 1 / square,
            EraseByLambda = -beta / (square * square),
            WriteByBeta = 1 / length,
            WriteByLambda = -beta / (2 * square * length),
        };
    }
}
