using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>Rotary position embedding, rotate-half (NeoX) convention: pair (i, i + d/2) turns by position * theta^(-2i/d).</summary>
public static partial class RotaryEmbedding
{
    /// <summary>Rotates every head by its token's position; records the gradient for <paramref name="x"/>, the opposite rotation.</summary>
    /// <param name="x">Float32 [batch, time, heads, dim], dim even.</param>
    /// <param name="position">Position of the first token of each row (of each document with <paramref name="offsets"/>): the tokens already seen when decoding.</param>
    /// <param name="theta">Base of the geometric series of frequencies.</param>
    /// <param name="offsets">Document boundaries of a packed row (batch 1), where positions start again.</param>
    /// <returns>Float32 of the shape of <paramref name="x"/>, a tensor of the open step.</returns>
    /// <exception cref="InvalidInputException">Shape, dtype or options do not fit, or the device has no form of the operator.</exception>
    public static Tensor Apply(Tensor x, int position = 0, float theta = 10000, SequenceOffsets? offsets = null)
    {
        Device device = Validate(x, position, theta, offsets);
        if (device is not CpuDevice cpu)
        {
            throw Require.Implementation(nameof(RotaryEmbedding), device);
        }

        Tensor y = device.Empty(x.Shape);
        Rotate(cpu, x, y, position, theta, offsets, backwards: false, accumulate: false);
        if (device.CurrentStep is { RecordsGradients: true } step && x.RequiresGrad)
        {
            step.Tape.Record(y, () =>
            {
                Tensor target = x.GradForWrite(out bool accumulate);
                Rotate(cpu, y.Grad!, target, position, theta, offsets, backwards: true, accumulate);
            });
        }

        return y;
    }

    private static Device Validate(Tensor x, int position, float theta, SequenceOffsets? offsets)
    {
        ArgumentNullException.ThrowIfNull(x);
        Require.Float32(nameof(RotaryEmbedding), nameof(x), x);
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

        return x.Device;
    }
}
