using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;

namespace ExactFlow.Models.Layers;

/// <summary>
/// What a layer reads: the normalised residual stream. Layers that only project it leave the choice open whether it is kept, and the sum that the stream waits
/// for, the norm and the projections can be one operator.
/// </summary>
public sealed class LayerInput : IDisposable
{
    private readonly Residual stream;
    private readonly ModelParameter norm;
    private readonly float epsilon;
    private readonly bool recompute;
    private Recomputed? normalized;
    private Tensor? sum;

    /// <summary>Nothing runs before the layer reads it.</summary>
    internal LayerInput(Residual stream, ModelParameter norm, float epsilon, bool recompute)
    {
        this.stream = stream;
        this.norm = norm;
        this.epsilon = epsilon;
        this.recompute = recompute;
    }

    /// <summary>An input that is there already, from another norm, and is kept.</summary>
    internal LayerInput(Tensor value)
    {
        normalized = Recomputed.Of(false, value, () => value);
        norm = null!;
    }

    /// <summary>The normalised stream [batch, time, hidden], until <see cref="Dispose"/>.</summary>
    public Tensor Value
    {
        get
        {
            normalized ??= stream.Normalize(norm, epsilon, recompute, out sum);
            return normalized.Output;
        }
    }

    /// <summary>The stream with everything added, once the layer has read its input.</summary>
    /// <exception cref="InvalidOperationException">It has not.</exception>
    internal Tensor Sum => sum ?? throw new InvalidOperationException("A layer ended without reading its input, so the residual stream in front of it was never added up.");

    /// <summary>The normalised stream times each matrix that is there. With recomputation a layer calls it once, for all it needs.</summary>
    public Tensor?[] Project(params ModelParameter?[] matrices)
    {
        ArgumentNullException.ThrowIfNull(matrices);
        Tensor[] present = [.. matrices.OfType<ModelParameter>().Select(matrix => matrix.Working)];
        Tensor[] projected;
        if (!recompute || normalized is not null)
        {
            projected = Linear.ApplyAll(Value, present);
        }
        else
        {
            (sum, projected) = stream.NormalizeThenProject(norm, epsilon, present);
        }

        int next = 0;
        return [.. matrices.Select(matrix => matrix is null ? null : projected[next++])];
    }

    /// <summary>Gives the normalised stream up where it is computed again; the layer has read it.</summary>
    public void Dispose() => normalized?.Dispose();
}
