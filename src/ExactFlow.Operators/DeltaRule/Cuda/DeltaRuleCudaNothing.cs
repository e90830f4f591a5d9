using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>No tokens at all: the state stays what it is, and so does its gradient.</summary>
internal sealed class DeltaRuleCudaNothing(DeltaRuleCudaInputs inputs) : IDeltaRuleCudaRun
{
    /// <inheritdoc/>
    public void Forward(Tensor? output, Tensor? finalState)
    {
        if (inputs.InitialState is { } state)
        {
            finalState?.CopyFrom(state);
        }
        else
        {
            finalState?.Zero();
        }
    }

    /// <inheritdoc/>
    public void Backward(Tensor? output, Tensor? finalState)
    {
        foreach (Tensor? input in (Tensor?[])[inputs.Query, inputs.Key, inputs.Value, inputs.Beta, inputs.LogDecay])
        {
            if (input is { RequiresGrad: true })
            {
                input.GradForWrite(out _);
            }
        }

        if (inputs.InitialState is { RequiresGrad: true } state)
        {
            Tensor target = state.GradForWrite(out bool accumulate);
            switch (accumulate, finalState?.Grad)
            {
                case (true, { } gradient):
                    CudaArithmetic.AddInto((Cuda.CudaDevice)state.Device, target, gradient);
                    break;
                case (false, { } gradient):
                    target.CopyFrom(gradient);
                    break;
                case (false, null):
                    target.Zero();
                    break;
            }
        }
    }
}
