using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;

namespace ExactFlow.Operators;

/// <summary>Layer normalisation (Ba, Kiros and Hinton, arXiv 1607.06450, Eq. 4): rows brought to mean 0 and variance 1, then weight and bias per feature.</summary>
public static unsafe partial class LayerNorm
{
    /// <summary>y = (x - mean) / sqrt(variance + epsilon) * weight + bias, each row (last dimension) on its own, with the biased variance.</summary>
    /// <param name="x">Float32 (on a GPU also bfloat16) <c>[..., dim]</c>.</param>
    /// <param name="weight">Float32 <c>[dim]</c>.</param>
    /// <param name="bias">Float32 <c>[dim]</c>.</param>
    /// <param name="epsilon">Added to the variance; 0 is allowed when no row is constant.</param>
    /// <returns>Shape and format of <paramref name="x"/>.</returns>
    /// <exception cref="InvalidInputException">Weight or bias is not as long as the last dimension of x, a format is not taken, or devices differ.</exception>
    public static Tensor Apply(Tensor x, Tensor weight, Tensor bias, float epsilon = 1e-5f)
    {
        Require.Rows("LayerNorm", "x", x);
        Require.PerFeature("LayerNorm", "weight", weight, "x", x);
        Require.PerFeature("LayerNorm", "bias", bias, "x", x);
        Require.NotNegative("LayerNorm", "epsilon", epsilon);
        Tensor y = x.Device.Empty(x.Shape, x.DType);
        switch (x.Device)
        {
            case CpuDevice cpu:
                Forward(cpu, x, weight, bias, epsilon, y);
                break;
            case CudaDevice gpu:
                Forward(gpu, x, weight, bias, epsilon, y);
                break;
            default:
                throw Require.Implementation("LayerNorm", x.Device);
        }

        if (Recording.TapeFor(x, weight, bias) is { } tape)
        {
            Record(tape, x, weight, bias, epsilon, y);
        }

        return y;
    }

    private static void Record(Tape tape, Tensor x, Tensor weight, Tensor bias, float epsilon, Tensor y)
        => tape.Record(y, () =>
        {
            switch (x.Device)
            {
                case CudaDevice gpu:
                    Backward(gpu, x, weight, epsilon, y.Grad!, CudaTarget.OfActivation(x), CudaTarget.Of(weight), CudaTarget.Of(bias));
                    break;
                default:
                    Backward((CpuDevice)x.Device, x, weight, epsilon, y.Grad!, GradientTarget.Of(x), GradientTarget.Of(weight), GradientTarget.Of(bias));
                    break;
            }
        });
}
