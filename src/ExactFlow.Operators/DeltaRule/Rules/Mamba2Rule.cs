namespace ExactFlow.Operators;

/// <summary>
/// The state-space dual form of Mamba-2 (arXiv 2405.21060): q is C, k is B, v is x, <c>beta</c> is dt and <c>log_decay</c> is -dt exp(A_log);
/// <c>g = e^{log_decay}</c>, nothing is erased, <c>w = dt</c>.
/// </summary>
internal sealed class Mamba2Rule() : DeltaRuleKind("mamba2")
{
    public override bool Decays => true;

    public override bool Erases => false;

    public override DeltaCoefficients Evaluate(double beta, double lambda, double logDecay) => new(logDecay, 0, beta);

    public override DeltaCoefficientSlopes Differentiate(double beta, double lambda, double logDecay) => new() { WriteByBeta = 1, LogDecayByLogDecay = 1 };
}
