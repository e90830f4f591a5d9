using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>
/// A rule of the delta family: how step size, key length and decay of a token become the three scalars of the one recurrence
/// <c>S_t = g (I - e k k^T) S_{t-1} + w k v^T</c>. A rule is two small pure functions, the coefficients and their partial derivatives;
/// everything else (forms, gradients, precisions, packing) is shared by all of them.
/// </summary>
/// <remarks>
/// Key normalisation is a coefficient too: with <c>k' = c k</c> the recurrence is the same for <c>e = e' c^2</c>, <c>w = w' c</c>,
/// so DeltaNet's unit keys are an <c>e</c> and a <c>w</c> that depend on <c>lambda = |k|^2</c>, and their chain rule comes with the partial derivatives.
/// To add a rule: one file in <c>Rules/</c>, one line in <see cref="All"/>.
/// </remarks>
public abstract class DeltaRuleKind
{
    private static readonly DeltaRuleKind[] Table =
    [
        new EflaRule(),
        new DeltaNetRule(),
        new GatedDeltaNetRule(),
        new GatedEflaRule(),
        new LogRateGatedEflaRule(),
        new LinearAttentionRule(),
        new Mamba2Rule(),
        new ExplicitEulerRule(),
        new RungeKutta2Rule(),
        new RungeKutta4Rule(),
        new ImplicitEulerRule(),
        new CayleyRule(),
        new ClippedEulerRule(),
        new UnitKeyFlowRule(),
        new UnitKeyFlowScaledValueRule(),
    ];

    private protected DeltaRuleKind(string name) => Name = name;

    /// <summary>All rules, the exact flow first.</summary>
    public static IReadOnlyList<DeltaRuleKind> All => Table;

    /// <summary>Exact Flow Linear Attention (arXiv 2512.12602, Eq. 15).</summary>
    public static DeltaRuleKind Efla => Table[0];

    /// <summary>The delta rule with normalised keys (arXiv 2406.06484).</summary>
    public static DeltaRuleKind DeltaNet => Table[1];

    /// <summary>The name in files and on the command line, such as <c>gated_efla</c>.</summary>
    public string Name { get; }

    /// <summary>Whether the step size <c>beta</c> takes part (it does except in linear attention).</summary>
    public virtual bool UsesBeta => true;

    /// <summary>Whether the state decays: the rule reads <c>log_decay</c> and <c>g</c> may differ from 1.</summary>
    public virtual bool Decays => false;

    /// <summary>Whether old values are erased: <c>e</c> may differ from 0. Without, no triangular system is solved.</summary>
    public virtual bool Erases => true;

    /// <summary>The rule of that name.</summary>
    /// <exception cref="InvalidInputException">There is none; the sentence lists all.</exception>
    public static DeltaRuleKind Parse(string name)
    {
        foreach (DeltaRuleKind rule in Table)
        {
            if (string.Equals(rule.Name, name, StringComparison.Ordinal))
            {
                return rule;
            }
        }

        throw new InvalidInputException($"There is no delta rule '{name}'; the rules are {string.Join(", ", Table.Select(rule => rule.Name))}.");
    }

    /// <inheritdoc/>
    public override string ToString() => Name;

    /// <summary>The scalars of a token, for its raw (not normalised) key.</summary>
    /// <param name="beta">Step size, at least 0.</param>
    /// <param name="lambda">Squared length of the key, at least 0.</param>
    /// <param name="logDecay">Natural logarithm of the decay alpha, at most 0; 0 for rules without decay.</param>
    public abstract DeltaCoefficients Evaluate(double beta, double lambda, double logDecay);

    /// <summary>The partial derivatives of <see cref="Evaluate"/>.</summary>
    /// <inheritdoc cref="Evaluate"/>
    public abstract DeltaCoefficientSlopes Differentiate(double beta, double lambda, double logDecay);
}
