using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;

namespace ExactFlow.Operators;

/// <summary>Cuts the last dimension into pieces, such as a fused projection into q, k, v and gate.</summary>
public static unsafe partial class Split
{
    /// <summary>Copies consecutive ranges of the last dimension into tensors of their own.</summary>
    /// <param name="x">Float32 <c>[..., dim]</c>, or bfloat16 on a GPU.</param>
    /// <param name="sizes">Widths of the pieces, each at least 1, together dim.</param>
    /// <returns>One tensor <c>[..., sizes[i]]</c> per piece, in order, of the dtype of <paramref name="x"/>.</returns>
    /// <exception cref="InvalidInputException">The sizes are not positive or do not add up to the last dimension; x has another dtype.</exception>
    public static Tensor[] Apply(Tensor x, ReadOnlySpan<int> sizes)
    {
        Require.Rows("Split", "x", x);
        Check(x, sizes);
        var parts = new Tensor[sizes.Length];
        for (int i = 0; i < parts.Length; i++)
        {
            parts[i] = x.Device.Empty(x.Shape.WithLast(sizes[i]), x.DType);
        }

        switch (x.Device)
        {
            case CpuDevice cpu:
                Forward(cpu, x, parts);
                break;
            case CudaDevice gpu:
                Forward(gpu, x, parts);
                break;
            default:
                throw Require.Implementation("Split", x.Device);
        }

        if (Recording.TapeFor(x) is { } tape)
        {
            Record(tape, x, parts);
        }

        return parts;
    }

    private static void Check(Tensor x, ReadOnlySpan<int> sizes)
    {
        long sum = 0;
        bool positive = sizes.Length > 0;
        foreach (int size in sizes)
        {
            positive &= size > 0;
            sum += size;
        }

        if (!positive || sum != x.Shape[^1])
        {
            throw new InvalidInputException(
                $"Split cuts the last dimension of x {x.Shape} into positive sizes that add up to {x.Shape[^1]}, but they are [{string.Join(", ", sizes.ToArray())}] with the sum {sum}: correct the sizes.");
        }
    }

    private static void Record(Tape tape, Tensor x, Tensor[] parts)
        => tape.Record(parts, () =>
        {
            if (x.Device is CudaDevice gpu)
            {
                Backward(gpu, x, parts, CudaTarget.OfActivation(x));
                return;
            }

            Backward((CpuDevice)x.Device, x.Shape, parts, GradientTarget.Of(x));
        });
}
