using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;

namespace ExactFlow.Operators;

/// <summary>Whether an operator has to record itself.</summary>
internal static class Recording
{
    /// <summary>The tape to record on, or null when the open step keeps none or no input wants a gradient.</summary>
    public static Tape? TapeFor(Tensor first, Tensor? second = null, Tensor? third = null)
        => first.Device.CurrentStep is { RecordsGradients: true } step && (first.RequiresGrad || second is { RequiresGrad: true } || third is { RequiresGrad: true })
            ? step.Tape
            : null;
}
