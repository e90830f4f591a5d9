using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;

namespace ExactFlow.Operators;

/// <summary>Rows scaled to unit length, as queries and keys of the delta rule are (method: q and k per head).</summary>
public static unsafe partial class L2Norm
{
    /// <summary>y = x / sqrt(sum(x^2) + epsilon), each row (last dimension) on its own; a zero row stays zero.</summary>
    /// <param name="x">Float32 (on a GPU also bfloat16) <c>[..., dim]</c>.</param>
    /// <param name="epsilon">Added to the squared length; 0 is allowed when no row is zero.</param>
    /// <returns>Shape and format of <paramref name="x"/>.</returns>
    /// <exception cref="InvalidInputException">x has no last dimension or an empty one, has another format, or epsilon is negative.</exception>
    public static Tensor Apply(Tensor x, float epsilon = 1e-6f)
    {
        Require.Rows("L2Norm", "x", x);
        Require.NotNegative("L2Norm", "epsilon", epsilon);
        Tensor y = x.Device.Empty(x.Shape, x.DType);
        switch (x.Device)
        {
            case CpuDevice cpu:
                Forward(cpu, x, epsilon, y);
                break;
            case CudaDevice gpu:
                Forward(gpu, x, epsilon, y);
                break;
            default:
                throw Require.Implementation("L2Norm", x.Device);
        }

        if (Recording.TapeFor(x) is { } tape)
        {
            Record(tape, x, epsilon, y);
        }

        return y;
    }

    private static void Record(Tape tape, Tensor x, float epsilon, Tensor y)
        => tape.Record(y, () =>
        {
            switch (x.Device)
            {
                case CudaDevice gpu:
                    Backward(gpu, x, epsilon, y.Grad!, CudaTarget.OfActivation(x));
                    break;
                default:
                    Backward((CpuDevice)x.Device, x, epsilon, y.Grad!, GradientTarget.Of(x));
                    break;
            }
        });
}
