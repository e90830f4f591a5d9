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
        if (!IsNarrow(x, weights))
        {
            return [.. weights.Select(weight => Apply(x, weight))];
        }

        Tape? tape = Recording.TapeFor(x) ?? weights.Select(weight => Recording.TapeFor(weight)).FirstOrDefault(found => found is not null);
        Tensor[] results = NarrowForward((CudaDevice)x.Device, x, weights);
        tape?.Record(results, () =>
        {
            Tensor?[] gradients = Array.ConvertAll(results, result => result.Grad);
            if (x.RequiresGrad)
            {
                Tensor target = x.GradForWrite(out bool accumulate);
                InputGradients(gradients, weights, target, accumulate);
            }

            WeightGradients(gradients, x, weights);
        });
        return results;
    }

    /// <summary>The results of <see cref="ApplyAll"/> without a record of them, for operators that differentiate them themselves.</summary>
    internal static Tensor[] ComputeAll(Tensor x, IReadOnlyList<Tensor> weights, bool isRecorded)
    {
        Validate(x, weights);
        return IsNarrow(x, weights)
            ? NarrowForward((CudaDevice)x.Device, x, weights)
            : [.. weights.Select(weight => Compute(x, weight, null, null, isRecorded))];
    }

    /// <summary>target (+)= sum_i dy_i W_i: what the gradients of the results, in the format of the operands, are for the input.</summary>
    /// <param name="outputGradients">For each weight, null where nobody used the result; not all of them.</param>
    /// <param name="weights">The weights.</param>
    /// <param name="target">The input's gradient.</param>
    /// <param name="accumulate">Whether to add to what is there.</param>
    internal static void InputGradients(IReadOnlyList<Tensor?> outputGradients, IReadOnlyList<Tensor> weights, Tensor target, bool accumulate)
    {
        if (IsNarrow(target, weights) && AreNarrow(outputGradients))
        {
            NarrowInputGradient((CudaDevice)target.Device, outputGradients, weights, target, accumulate);
            return;
        }

        // From the last to the first, as operators of their own would do it.
        for (int i = weights.Count - 1; i >= 0; i--)
        {
            if (outputGradients[i] is { } gradient)
            {
                InputGradient(gradient, weights[i], target, accumulate);
                accumulate = true;
            }
        }
    }

    /// <summary>dW_i (+)= dy_i^T x for each weight that wants a gradient.</summary>
    /// <param name="outputGradients">For each weight, in the format of the operands; null where nobody used the result.</param>
    /// <param name="x">The input.</param>
    /// <param name="weights">The weights.</param>
    internal static void WeightGradients(IReadOnlyList<Tensor?> outputGradients, Tensor x, IReadOnlyList<Tensor> weights)
    {
        if (IsNarrow(x, weights) && AreNarrow(outputGradients))
        {
            NarrowWeightGradients((CudaDevice)x.Device, outputGradients, x, weights);
            return;
        }

        for (int i = weights.Count - 1; i >= 0; i--)
        {
            if (outputGradients[i] is { } gradient)
            {
                WeightGradient(gradient, x, weights[i]);
            }
        }
    }

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
