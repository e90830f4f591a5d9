using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;

namespace ExactFlow.Operators;

/// <summary>The decay gate of gated delta-rule layers in logarithms (arXiv 2412.06464, after Mamba-2, arXiv 2405.21060).</summary>
public static unsafe partial class LogDecay
{
    /// <summary>log_decay = -exp(A_log) * softplus(a + dt_bias), per head; never positive.</summary>
    /// <param name="a">Float32 <c>[..., heads]</c>, or bfloat16 on a GPU: the projection of the layer's input.</param>
    /// <param name="aLog">Float32 <c>[heads]</c>, logarithm of the decay rate.</param>
    /// <param name="dtBias">Float32 <c>[heads]</c>.</param>
    /// <returns>Float32 whatever the dtype of <paramref name="a"/> is, because decays multiply up over a sequence; the shape of <paramref name="a"/>.</returns>
    /// <exception cref="InvalidInputException">aLog or dtBias is not as long as the last dimension of a, a dtype is none of these, or devices differ.</exception>
    public static Tensor Apply(Tensor a, Tensor aLog, Tensor dtBias)
    {
        Require.Rows("LogDecay", "a", a);
        Require.PerFeature("LogDecay", "aLog", aLog, "a", a);
        Require.PerFeature("LogDecay", "dtBias", dtBias, "a", a);
        Tensor y = a.Device.Empty(a.Shape);
        switch (a.Device)
        {
            case CpuDevice cpu:
                Forward(cpu, a, aLog, dtBias, y);
                break;
            case CudaDevice gpu:
                Forward(gpu, a, aLog, dtBias, y);
                break;
            default:
                throw Require.Implementation("LogDecay", a.Device);
        }

        if (Recording.TapeFor(a, aLog, dtBias) is { } tape)
        {
            Record(tape, a, aLog, dtBias, y);
        }

        return y;
    }

    private static void Record(Tape tape, Tensor a, Tensor aLog, Tensor dtBias, Tensor y)
        => tape.Record(y, () =>
        {
            if (a.Device is CudaDevice gpu)
            {
                Backward(gpu, a, aLog, dtBias, y.Grad!, CudaTarget.OfActivation(a), CudaTarget.Of(aLog), CudaTarget.Of(dtBias));
                return;
            }

            var inputGradient = GradientTarget.Of(a);
            var rateGradient = GradientTarget.Of(aLog);
            var biasGradient = GradientTarget.Of(dtBias);
            Backward((CpuDevice)a.Device, a, aLog, dtBias, y.Grad!, inputGradient, rateGradient, biasGradient);
        });
}
