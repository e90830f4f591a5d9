namespace ExactFlow.Operators;

/// <summary>
/// The exact flow on keys of unit length, <c>k' = k / sqrt(lambda + 1e-6)</c>: a control that takes the key's norm out of EFLA and keeps the integrator.
/// <c>e' = w' = 1 - e^-beta</c>, for the raw key <c>e = e' / (lambda + 1e-6)</c>, <c>w = e' / sqrt(lambda + 1e-6)</c>: DeltaNet with a step size of <c>1 - e^-beta</c>.
/// </summary>
internal sealed class UnitKeyFlowRule() : DeltaRuleKind("unit_key_flow")
{
    private const double Epsilon = 1e-6;

    public override DeltaCoefficients Evaluate(double beta, double lambda, double logDecay)
    {
        double square = lambda + Epsilon, step = FlowFunctions.OneMinusExp(-beta);
        return new DeltaCoefficients(0, step / square, step / Math.Sqrt(square));
    }

    public override DeltaCoefficientSlopes Differentiate(double beta, double lambda, double logDecay)
    {
        double square = lambda + Epsilon, length = Math.Sqrt(square), step = FlowFunctions.OneMinusExp(-beta), slope = Math.Exp(-beta);
        return new DeltaCoefficientSlopes
        {
            EraseByBeta = slope / square,
            EraseByLambda = -step / (square * square),
            WriteByBeta = slope / length,
            WriteByLambda = -step / (2 * square * length),
        };
    }
}
