using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>One call of the operator on a GPU: its forward pass and what its backward pass needs.</summary>
internal interface IDeltaRuleCudaRun
{
    /// <summary>Fills the output and the final state, whichever are wanted.</summary>
    void Forward(Tensor? output, Tensor? finalState);

    /// <summary>Writes the gradients of all inputs that want one, from those of the output and the final state.</summary>
    void Backward(Tensor? output, Tensor? finalState);
}

/// <summary>What the operator was called with, checked; step sizes and decays only where the rule reads them.</summary>
internal readonly record struct DeltaRuleCudaInputs(
    DeltaRuleKind Rule, DeltaRuleSizes Sizes, Tensor Query, Tensor Key, Tensor Value, Tensor? Beta, Tensor? LogDecay, Tensor? InitialState, float Scale);
