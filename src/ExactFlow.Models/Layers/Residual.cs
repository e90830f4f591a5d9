using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;

namespace ExactFlow.Models.Layers;

/// <summary>
/// The residual stream between layers: a sum that may not have been computed yet, so that the norm that follows can do it in the same pass over memory.
/// </summary>
/// <param name="x">The stream.</param>
/// <param name="addend">What a layer gave, to be added to it; only this sum reads it.</param>
internal readonly struct Residual(Tensor x, Tensor? addend = null)
{
    /// <summary>Where it lives.</summary>
    public Device Device => x.Device;

    /// <summary>The stream with everything added.</summary>
    public Tensor Sum()
    {
        if (addend is null)
        {
            return x;
        }

        Tensor sum = Elementwise.Add(x, addend);
        addend.Dispose();
        return sum;
    }

    /// <summary>RMSNorm of the stream, and the stream itself.</summary>
    /// <param name="weight">Of the norm.</param>
    /// <param name="epsilon">Of the norm.</param>
    /// <param name="recompute">Whether the backward pass computes the norm again instead of keeping it.</param>
    /// <param name="sum">The stream with everything added.</param>
    public Recomputed Normalize(ModelParameter weight, float epsilon, bool recompute, out Tensor sum)
    {
        Tensor normalized;
        if (addend is null)
        {
            sum = x;
            normalized = RmsNorm.Apply(x, weight.Value, epsilon);
        }
        else
        {
            (sum, normalized) = RmsNorm.ApplyAfterAdd(x, addend, weight.Value, epsilon);
            addend.Dispose();
        }

        Tensor stream = sum;
        return Recomputed.Of(recompute, normalized, () => RmsNorm.Apply(stream, weight.Value, epsilon));
    }

    /// <summary>The stream itself, and its RMSNorm times some matrices, without keeping the norm.</summary>
    /// <param name="weight">Of the norm.</param>
    /// <param name="epsilon">Of the norm.</param>
    /// <param name="matrices">What the norm is multiplied by.</param>
    public (Tensor Sum, Tensor[] Projected) NormalizeThenProject(ModelParameter weight, float epsilon, IReadOnlyList<Tensor> matrices)
    {
        (Tensor Sum, Tensor[] Projected) result = RmsNorm.ApplyThenProject(x, addend, weight.Value, matrices, epsilon);
        addend?.Dispose();
        return result;
    }
}
