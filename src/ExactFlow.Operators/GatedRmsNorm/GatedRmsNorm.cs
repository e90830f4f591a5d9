using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;

namespace ExactFlow.Operators;

/// <summary>RMS normalisation with an output gate, in one pass: after the norm as in gated DeltaNet (arXiv 2412.06464) or before it as in Mamba-2 (arXiv 2405.21060).</summary>
public static unsafe partial class GatedRmsNorm
{
    /// <summary>RMSNorm(x) * weight * SiLU(gate), or RMSNorm(x * SiLU(gate)) * weight.</summary>
    /// <param name="x">Float32 (on a GPU also bfloat16) <c>[..., dim]</c>.</param>
    /// <param name="gate">Shape and format of <paramref name="x"/>.</param>
    /// <param name="weight">Float32 <c>[dim]</c>.</param>
    /// <param name="placement">Before or after the norm.</param>
    /// <param name="epsilon">Added to the mean square.</param>
    /// <returns>Shape and format of <paramref name="x"/>.</returns>
    /// <exception cref="InvalidInputException">Shapes do not fit, a format is not taken, or devices differ.</exception>
    public static Tensor Apply(Tensor x, Tensor gate, Tensor weight, GatePlacement placement, float epsilon = 1e-6f)
    {
        Require.Rows("GatedRmsNorm", "x", x);
        Require.SameShape("GatedRmsNorm", "x", x, "gate", gate);
        Require.PerFeature("GatedRmsNorm", "weight", weight, "x", x);
        Require.NotNegative("GatedRmsNorm", "epsilon", epsilon);
        Tensor y = x.Device.Empty(x.Shape, x.DType);
        switch (x.Device)
        {
            case CpuDevice cpu:
                Forward(cpu, x, gate, weight, placement, epsilon, y);
                break;
            case CudaDevice gpu:
                Forward(gpu, x, gate, weight, placement, epsilon, y);
                break;
            default:
                throw Require.Implementation("GatedRmsNorm", x.Device);
        }

        if (Recording.TapeFor(x, gate, weight) is { } tape)
        {
            Record(tape, x, gate, weight, placement, epsilon, y);
        }

        return y;
    }

    private static void Record(Tape tape, Tensor x, Tensor gate, Tensor weight, GatePlacement placement, float epsilon, Tensor y)
        => tape.Record(y, () =>
        {
            switch (x.Device)
            {
                case CudaDevice gpu:
                    Backward(gpu, x, gate, weight, placement, epsilon, y.Grad!, CudaTarget.OfActivation(x), CudaTarget.OfActivation(gate), CudaTarget.Of(weight));
                    break;
                default:
                    Backward((CpuDevice)x.Device, x, gate, weight, placement, epsilon, y.Grad!, GradientTarget.Of(x), GradientTarget.Of(gate), GradientTarget.Of(weight));
                    break;
            }
        });
}
