using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;

namespace ExactFlow.Operators;

/// <summary>Rotary position embedding, rotate-half (NeoX) convention: pair (i, i + d/2) turns by position * theta^(-2i/d).</summary>
public static partial class RotaryEmbedding
{
    /// <summary>Rotates every head by its token's position; records the gradient for <paramref name="x"/>, the opposite rotation.</summary>
    /// <param name="x">Float32 [batch, time, heads, dim], dim even; on a GPU bfloat16 too.</param>
    /// <param name="position">Position of the first token of each row (of each document with <paramref name="offsets"/>): the tokens already seen when decoding.</param>
    /// <param name="theta">Base of the geometric series of frequencies.</param>
    /// <param name="offsets">Document boundaries of a packed row (batch 1), where positions start again.</param>
    /// <returns>The shape and dtype of <paramref name="x"/>, a tensor of the open step.</returns>
    /// <exception cref="InvalidInputException">Shape, dtype or options do not fit, or the device has no form of the operator.</exception>
    public static Tensor Apply(Tensor x, int position = 0, float theta = 10000, SequenceOffsets? offsets = null)
    {
        Validate(x, position, theta, offsets);
        Tensor y = x.Device.Empty(x.Shape, x.DType);
        Tensor? documents = null;
        switch (x.Device)
        {
            case CpuDevice cpu:
                Rotate(cpu, x, y, position, theta, offsets, backwards: false, accumulate: false);
                break;
            case CudaDevice gpu:
                documents = offsets is null ? null : gpu.From(offsets.Span, [offsets.Span.Length]);
                Rotate(gpu, x, CudaTarget.Over(y), position, theta, documents, backwards: false);
                break;
            default:
                throw Require.Implementation(nameof(RotaryEmbedding), x.Device);
        }

        if (Recording.TapeFor(x) is { } tape)
        {
            Record(tape, x, position, theta, offsets, documents, y);
        }

        return y;
    }

    private static void Record(Tape tape, Tensor x, int position, float theta, SequenceOffsets? offsets, Tensor? documents, Tensor y)
        => tape.Record(y, () =>
        {
            if (x.Device is CudaDevice gpu)
            {
                Rotate(gpu, y.Grad!, CudaTarget.OfActivation(x), position, theta, documents, backwards: true);
                return;
            }

            Tensor target = x.GradForWrite(out bool accumulate);
            Rotate((CpuDevice)x.Device, y.Grad!, target, position, theta, offsets, backwards: true, accumulate);
        });

    private static void Validate(Tensor x, int position, float theta, SequenceOffsets? offsets)
    {
        ArgumentNullException.ThrowIfNull(x);
        Require.Floating(nameof(RotaryEmbedding), nameof(x), x);
        if (x.Shape.Rank != 4 || x.Shape[3] % 2 != 0)
        {
            throw new InvalidInputException($"RotaryEmbedding expects x [batch, time, heads, dim] with an even dim, but x is {x.Shape}.");
        }

        if (position < 0 || position > int.MaxValue - x.Shape[1])
        {
            throw new InvalidInputException($"RotaryEmbedding expects a position of at least 0 that leaves room for {x.Shape[1]} tokens, but it is {position}.");
        }

        if (!(theta > 0 && float.IsFinite(theta)))
        {
            throw new InvalidInputException($"RotaryEmbedding expects a positive finite theta, but it is {theta}; 10000 is usual.");
        }

        if (offsets is not null && (x.Shape[0] != 1 || offsets.TotalLength != x.Shape[1]))
        {
            throw new InvalidInputException($"RotaryEmbedding with offsets expects x [1, {offsets.TotalLength}, heads, dim] (their total length), but x is {x.Shape}.");
        }
    }
}
