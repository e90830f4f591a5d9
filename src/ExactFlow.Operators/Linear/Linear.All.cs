using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;

namespace ExactFlow.Operators;

public static partial class Linear
{
    /// <summary>
    /// Several maps of one input, y_i = x W_i^T, such as queries, keys and values. On a GPU, narrow bfloat16 operands are read once for all of them, and so
    /// are their gradients; everything else is <see cref="Apply"/> for each, with the same bits.
    /// </summary>
    /// <param name="x">Float32 [..., in]; on a GPU also bfloat16.</param>
    /// <param name="weights">Each [out_i, in], in the format of <paramref name="x"/>; gradients as for <see cref="Apply"/>.</param>
    /// <returns>A tensor [..., out_i] of the open step for each weight, in the format of <paramref name="x"/>.</returns>
    /// <exception cref="InvalidInputException">Shapes, dtypes or devices do not fit, or the device has no form of the operator.</exception>
    public static Tensor[] ApplyAll(Tensor x, IReadOnlyList<Tensor> weights)
    {
        Validate(x, weights);
        int[] joint = NarrowOnes(x, weights);
        Tensor[] chosen = Pick(weights, joint);
        Tensor[] projected = joint.Length == 0 ? [] : NarrowForward((CudaDevice)x.Device, x, chosen);
        Tape? tape = joint.Length == 0 ? null : Recording.TapeFor(x) ?? chosen.Select(weight => Recording.TapeFor(weight)).FirstOrDefault(found => found is not null);
        tape?.Record(projected, () =>
        {
            Tensor?[] gradients = Array.ConvertAll(projected, result => result.Grad);
            if (x.RequiresGrad)
            {
                Tensor target = x.GradForWrite(out bool accumulate);
                InputGradients(gradients, chosen, target, accumulate);
            }

            WeightGradients(gradients, x, chosen);
        });
        return InOrder(projected, joint, weights, weight => Apply(x, weight));
    }

    /// <summary>The results of <see cref="ApplyAll"/> without a record of them, for operators that differentiate them themselves.</summary>
    internal static Tensor[] ComputeAll(Tensor x, IReadOnlyList<Tensor> weights, bool isRecorded)
    {
        Validate(x, weights);
        int[] joint = NarrowOnes(x, weights);
        Tensor[] projected = joint.Length == 0 ? [] : NarrowForward((CudaDevice)x.Device, x, Pick(weights, joint));
        return InOrder(projected, joint, weights, weight => Compute(x, weight, null, null, isRecorded));
    }

    /// <summary>target (+)= sum_i dy_i W_i: what the gradients of the results, in the format of the operands, are for the input.</summary>
    /// <param name="outputGradients">For each weight, null where nobody used the result; not all of them.</param>
    /// <param name="weights">The weights.</param>
    /// <param name="target">The input's gradient.</param>
    /// <param name="accumulate">Whether to add to what is there.</param>
    internal static void InputGradients(IReadOnlyList<Tensor?> outputGradients, IReadOnlyList<Tensor> weights, Tensor target, bool accumulate)
    {
        // From the last to the first, as operators of their own would do it; the joint ones were recorded before all others.
        int[] joint = NarrowOnes(target, weights, outputGradients);
        for (int i = weights.Count - 1; i >= 0; i--)
        {
            if (outputGradients[i] is { } gradient && !joint.Contains(i))
            {
                InputGradient(gradient, weights[i], target, accumulate);
                accumulate = true;
            }
        }

        if (joint.Length > 0)
        {
            NarrowInputGradient((CudaDevice)target.Device, Pick(outputGradients, joint), Pick(weights, joint), target, accumulate);
        }
    }

    /// <summary>dW_i (+)= dy_i^T x for each weight that wants a gradient.</summary>
    /// <param name="outputGradients">For each weight, in the format of the operands; null where nobody used the result.</param>
    /// <param name="x">The input.</param>
    /// <param name="weights">The weights.</param>
    internal static void WeightGradients(IReadOnlyList<Tensor?> outputGradients, Tensor x, IReadOnlyList<Tensor> weights)
    {
        int[] joint = NarrowOnes(x, weights, outputGradients);
        for (int i = weights.Count - 1; i >= 0; i--)
        {
            if (outputGradients[i] is { } gradient && !joint.Contains(i))
            {
                WeightGradient(gradient, x, weights[i]);
            }
        }

        if (joint.Length > 0)
        {
            NarrowWeightGradients((CudaDevice)x.Device, Pick(outputGradients, joint), x, Pick(weights, joint));
        }
    }

    private static T[] Pick<T>(IReadOnlyList<T> all, int[] which) => Array.ConvertAll(which, i => all[i]);

    /// <summary>The joint results at their places, and one of its own for every other weight.</summary>
    private static Tensor[] InOrder(Tensor[] projected, int[] joint, IReadOnlyList<Tensor> weights, Func<Tensor, Tensor> single)
        => [.. weights.Select((weight, i) => Array.IndexOf(joint, i) is >= 0 and int at ? projected[at] : single(weight))];

    private static void Validate(Tensor x, IReadOnlyList<Tensor> weights)
    {
        ArgumentNullException.ThrowIfNull(x);
        ArgumentNullException.ThrowIfNull(weights);
        foreach (Tensor weight in weights)
        {
            Validate(x, weight, bias: null, outputType: null);
        }
    }
}
