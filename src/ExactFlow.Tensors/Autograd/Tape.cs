namespace ExactFlow.Tensors.Autograd;

/// <summary>
/// The list of operators that ran, in order, each with a closure that turns the gradients of its outputs into gradients of its inputs.
/// An operator records itself with <see cref="Record(Tensor, Action)"/>; its closure reads <see cref="Tensor.Grad"/> of its outputs
/// and writes through <see cref="Tensor.GradForWrite"/> of every input with <see cref="Tensor.RequiresGrad"/>.
/// </summary>
public sealed class Tape
{
    private readonly List<Node> nodes = [];

    /// <summary>Operators recorded.</summary>
    public int Count => nodes.Count;

    /// <summary>Records an operator with one output.</summary>
    public void Record(Tensor output, Action backward) => Record(output, null, backward);

    /// <summary>Records an operator with two outputs; the closure must allow for the gradient of either being null (nobody used it).</summary>
    public void Record(Tensor output, Tensor? second, Action backward)
    {
        ArgumentNullException.ThrowIfNull(output);
        output.RequireGrad();
        second?.RequireGrad();
        nodes.Add(new Node(output, second, null, backward));
    }

    /// <summary>Records an operator with any number of outputs (at least one); the closure must allow for any of their gradients being null.</summary>
    public void Record(Tensor[] outputs, Action backward)
    {
        ArgumentNullException.ThrowIfNull(outputs);
        foreach (Tensor output in outputs)
        {
            output.RequireGrad();
        }

        nodes.Add(new Node(outputs[0], null, outputs, backward));
    }

    /// <summary>Records work that the backward pass does when it comes here, whatever has a gradient.</summary>
    internal void RecordAlways(Action backward) => nodes.Add(new Node(null, null, null, backward));

    /// <summary>
    /// Runs the closures backwards. An output whose gradient nobody wrote is skipped; a gradient is released once its operator has used it, and what a closure
    /// made for itself when it is done, so the peak is the activations, not twice the activations.
    /// </summary>
    internal void Backward(Step step)
    {
        for (int i = nodes.Count - 1; i >= 0; i--)
        {
            Node node = nodes[i];
            if (node.HasGradient)
            {
                int mark = step.Mark();
                node.Backward();
                node.ReleaseGradients();
                step.ReleaseSince(mark);
            }

            if (step.ReleasesBehindBackward)
            {
                node.ReleaseValues();
            }
        }

        nodes.Clear();
    }

    internal void Clear() => nodes.Clear();

    /// <summary>An operator: one output, a second one, or all of many. Without any: work that is always done.</summary>
    private readonly record struct Node(Tensor? Output, Tensor? Second, Tensor[]? Many, Action Backward)
    {
        public bool HasGradient
        {
            get
            {
                foreach (Tensor output in Many ?? [])
                {
                    if (output.HasGrad)
                    {
                        return true;
                    }
                }

                return Output is null || Output.HasGrad || Second is { HasGrad: true };
            }
        }

        public void ReleaseGradients()
        {
            foreach (Tensor output in Many ?? [])
            {
                output.ReleaseGrad();
            }

            Output?.ReleaseGrad();
            Second?.ReleaseGrad();
        }

        public void ReleaseValues()
        {
            foreach (Tensor output in Many ?? [])
            {
                output.EndOfStep();
            }

            Output?.EndOfStep();
            Second?.EndOfStep();
        }
    }
}
