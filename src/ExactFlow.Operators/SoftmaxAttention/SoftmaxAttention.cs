using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;

namespace ExactFlow.Operators;

/// <summary>Causal softmax attention, o_t = sum_{s &lt;= t} softmax_s(scale q_t . k_s) v_s, computed in tiles: memory grows with T, not with T squared.</summary>
public static partial class SoftmaxAttention
{
    /// <summary>Attends every token to itself and those before it; records gradients for all three inputs.</summary>
    /// <param name="q">Float32 [batch, time, heads, dim]; on a GPU also bfloat16, like k and v, with heads of at most 256 numbers.</param>
    /// <param name="k">[batch, time, kvHeads, dim]; heads is a multiple of kvHeads, and query head h reads k/v head h / (heads / kvHeads).</param>
    /// <param name="v">[batch, time, kvHeads, valueDim].</param>
    /// <param name="scale">Factor of the scores; dim^-1/2 when null.</param>
    /// <param name="offsets">Document boundaries of a packed row (batch 1); tokens do not see other documents.</param>
    /// <returns>[batch, time, heads, valueDim], a tensor of the open step.</returns>
    /// <exception cref="InvalidInputException">Shapes, dtypes or devices do not fit, or the device has no form of the operator.</exception>
    public static Tensor Apply(Tensor q, Tensor k, Tensor v, float? scale = null, SequenceOffsets? offsets = null)
    {
        Device device = Validate(q, k, v, offsets);
        float factor = scale ?? (1 / MathF.Sqrt(q.Shape[3]));
        Tape? tape = Recording.TapeFor(q, k, v);
        Tensor output = device.Empty(q.Shape.WithLast(v.Shape[3]), q.DType);
        Tensor? logSums = tape is null ? null : device.Empty([q.Shape[0], q.Shape[2], q.Shape[1]]);
        switch (device)
        {
            case CpuDevice cpu:
                Forward(cpu, q, k, v, factor, offsets, output, logSums);
                tape?.Record(output, () => Backward(cpu, q, k, v, factor, offsets, output, logSums!, output.Grad!));
                break;
            case CudaDevice gpu:
                Tensor? documents = Upload(gpu, offsets);
                Forward(gpu, q, k, v, factor, documents, output, logSums);
                tape?.Record(output, () => Backward(gpu, q, k, v, factor, documents, output, logSums!, output.Grad!));
                break;
            default:
                throw Require.Implementation(nameof(SoftmaxAttention), device);
        }

        return output;
    }

    /// <summary>Attends one new token per row to the first <paramref name="length"/> entries of a key/value cache, its own included. Records nothing.</summary>
    /// <param name="q">Float32 [batch, 1, heads, dim]; on a GPU also bfloat16, like the caches.</param>
    /// <param name="keyCache">[batch, capacity, kvHeads, dim].</param>
    /// <param name="valueCache">[batch, capacity, kvHeads, valueDim].</param>
    /// <param name="length">Entries in use, from 1 to capacity.</param>
    /// <param name="scale">Factor of the scores; dim^-1/2 when null.</param>
    /// <returns>[batch, 1, heads, valueDim], a tensor of the open step.</returns>
    /// <exception cref="InvalidInputException">Shapes, dtypes, devices or the length do not fit, or the device has no form of the operator.</exception>
    public static Tensor Decode(Tensor q, Tensor keyCache, Tensor valueCache, int length, float? scale = null)
    {
        Device device = ValidateShapes(q, keyCache, valueCache);
        if (q.Shape[1] != 1 || length < 1 || length > keyCache.Shape[1])
        {
            throw new InvalidInputException(
                $"SoftmaxAttention.Decode expects q [batch, 1, heads, dim] and a length from 1 to the cache's capacity, but q is {q.Shape}, the cache {keyCache.Shape} and the length {length}.");
        }

        float factor = scale ?? (1 / MathF.Sqrt(q.Shape[3]));
        Tensor output = device.Empty(q.Shape.WithLast(valueCache.Shape[3]), q.DType);
        switch (device)
        {
            case CpuDevice cpu:
                DecodeStep(cpu, q, keyCache, valueCache, length, factor, output);
                break;
            case CudaDevice gpu:
                DecodeStep(gpu, q, keyCache, valueCache, length, factor, output);
                break;
            default:
                throw Require.Implementation(nameof(SoftmaxAttention), device);
        }

        return output;
    }

    private static Device Validate(Tensor q, Tensor k, Tensor v, SequenceOffsets? offsets)
    {
        Device device = ValidateShapes(q, k, v);
        if (q.Shape[1] != k.Shape[1])
        {
            throw new InvalidInputException($"SoftmaxAttention expects as many tokens in q as in k and v, but q is {q.Shape} and k is {k.Shape}; use Decode with a cache.");
        }

        if (offsets is not null && (q.Shape[0] != 1 || offsets.TotalLength != q.Shape[1]))
        {
            throw new InvalidInputException($"SoftmaxAttention with offsets expects q [1, {offsets.TotalLength}, heads, dim] (their total length), but q is {q.Shape}.");
        }

        return device;
    }

    private static Device ValidateShapes(Tensor q, Tensor k, Tensor v)
    {
        ArgumentNullException.ThrowIfNull(q);
        Device device = q.Device;
        Require.Floating(nameof(SoftmaxAttention), nameof(q), q);
        Require.Floating(nameof(SoftmaxAttention), nameof(k), k);
        Require.SameType(nameof(SoftmaxAttention), nameof(q), q, nameof(k), k);
        Require.SameDevice(nameof(SoftmaxAttention), nameof(q), q, nameof(k), k);
        Require.Floating(nameof(SoftmaxAttention), nameof(v), v);
        Require.SameType(nameof(SoftmaxAttention), nameof(q), q, nameof(v), v);
        Require.SameDevice(nameof(SoftmaxAttention), nameof(q), q, nameof(v), v);
        bool ranks = q.Shape.Rank == 4 && k.Shape.Rank == 4 && v.Shape.Rank == 4;
        if (!ranks || q.Shape[0] != k.Shape[0] || q.Shape[3] != k.Shape[3] || k.Shape[2] == 0 || q.Shape[2] % k.Shape[2] != 0)
        {
            throw new InvalidInputException(
                $"SoftmaxAttention expects q [batch, time, heads, dim] and k [batch, time, kvHeads, dim] with heads a multiple of kvHeads, but q is {q.Shape} and k is {k.Shape}.");
        }

        if (v.Shape[0] != k.Shape[0] || v.Shape[1] != k.Shape[1] || v.Shape[2] != k.Shape[2])
        {
            throw new InvalidInputException($"SoftmaxAttention expects v [batch, time, kvHeads, valueDim] to match k in all but the last dimension, but k is {k.Shape} and v is {v.Shape}.");
        }

        return device;
    }
}
