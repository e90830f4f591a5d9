namespace ExactFlow.Operators;

/// <summary>
/// The exact flow on keys of unit length with values divided by the key's length, as EFLA writes them: <c>a = (1 - e^-beta) / (lambda + 1e-6)</c>.
/// EFLA is the same with <c>1 - e^{-beta lambda}</c> in place of <c>1 - e^-beta</c>; the two differ in whether the norm sets how much is erased.
/// </summary>
internal sealed class UnitKeyFlowScaledValueRule() : IntegratorRule("unit_key_flow_scaled_value")
{
    private const double Epsilon = 1e-6;

    protected override double Step(double beta, double lambda) => FlowFunctions.OneMinusExp(-beta) / (lambda + Epsilon);

    protected override (double ByBeta, double ByLambda) StepSlopes(double beta, double lambda)
    {
        double square = lambda + Epsilon;
        return (Math.Exp(-beta) / square, -FlowFunctions.OneMinusExp(-beta) / (square * square));
    }
}
