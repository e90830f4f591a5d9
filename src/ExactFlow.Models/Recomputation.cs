namespace ExactFlow.Models;

/// <summary>
/// What a block computes again in the backward pass instead of keeping it until then. Gradients are the same bits at every level; each level keeps less than
/// the one before and costs more. The figures are activations kept per block of the delta family and token, in numbers of the model's width.
/// </summary>
public enum Recomputation
{
    /// <summary>Everything is kept: about 24.</summary>
    None,

    /// <summary>Norms, convolutions, the recurrence and the activation of the MLP are computed again, matrix products are not: about 10.</summary>
    Light,

    /// <summary>The first two projections of the MLP too: about 5.</summary>
    Mlp,

    /// <summary>Whole blocks, of which the input is kept: 1.</summary>
    Block,
}
