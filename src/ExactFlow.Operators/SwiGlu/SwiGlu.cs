using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;

namespace ExactFlow.Operators;

/// <summary>The gated activation of the feed-forward part of a block (Shazeer, arXiv 2002.05202, SwiGLU).</summary>
public static unsafe partial class SwiGlu
{
    /// <summary>SiLU(gate) * up.</summary>
    /// <param name="gate">Float32, or bfloat16 on a GPU; any shape.</param>
    /// <param name="up">The shape and dtype of <paramref name="gate"/>.</param>
    /// <exception cref="InvalidInputException">Shapes, dtypes or devices differ.</exception>
    public static Tensor Apply(Tensor gate, Tensor up)
    {
        Tensor y = Compute(gate, up);
        if (Recording.TapeFor(gate, up) is { } tape)
        {
            Record(tape, gate, up, y);
        }

        return y;
    }

    /// <summary>
    /// (SiLU(gate) * up) W^T, as at the end of a feed-forward layer, without keeping the product in the middle: the backward pass, which needs it for the
    /// gradient of W, writes it again in the pass over memory that computes the gradients of gate and up. The bits are those of <see cref="Apply"/> and <see cref="Linear"/>.
    /// </summary>
    /// <param name="gate">Float32, or bfloat16 on a GPU; [..., in].</param>
    /// <param name="up">The shape and dtype of <paramref name="gate"/>.</param>
    /// <param name="weight">[out, in], in the format of <paramref name="gate"/>.</param>
    /// <returns>[..., out].</returns>
    /// <exception cref="InvalidInputException">Shapes, dtypes or devices differ or do not fit.</exception>
    public static Tensor ApplyThenProject(Tensor gate, Tensor up, Tensor weight)
    {
        Tape? tape = Recording.TapeFor(gate, up, weight);
        Tensor y;
        using (Tensor product = Compute(gate, up))
        {
            y = Linear.Compute(product, weight, null, null, isRecorded: tape is not null);
        }

        tape?.Record(y, () => BackwardThroughProjection(gate, up, weight, y.Grad!));
        return y;
    }

    private static Tensor Compute(Tensor gate, Tensor up)
    {
        Require.SameShape("SwiGlu", "gate", gate, "up", up);
        Tensor y = gate.Device.Empty(gate.Shape, gate.DType);
        switch (gate.Device)
        {
            case CpuDevice cpu:
                Forward(cpu, gate, up, y);
                break;
            case CudaDevice gpu:
                Forward(gpu, gate, up, y);
                break;
            default:
                throw Require.Implementation("SwiGlu", gate.Device);
        }

        return y;
    }

    private static void BackwardThroughProjection(Tensor gate, Tensor up, Tensor weight, Tensor outputGradient)
    {
        // First the gradient of the product, then, in the same memory, the product.
        using Tensor product = gate.Device.Empty(gate.Shape, gate.DType);
        Linear.InputGradient(outputGradient, weight, product, accumulate: false);
        if (gate.Device is CudaDevice gpu)
        {
            Backward(gpu, gate, up, product, CudaTarget.OfActivation(gate), CudaTarget.OfActivation(up), product);
        }
        else
        {
            var cpu = (CpuDevice)gate.Device;
            Backward(cpu, gate, up, product, GradientTarget.Of(gate), GradientTarget.Of(up));
            Forward(cpu, gate, up, product);
        }

        Linear.WeightGradient(outputGradient, product, weight);
    }

    private static void Record(Tape tape, Tensor gate, Tensor up, Tensor y)
        => tape.Record(y, () =>
        {
            if (gate.Device is CudaDevice gpu)
            {
                Backward(gpu, gate, up, y.Grad!, CudaTarget.OfActivation(gate), CudaTarget.OfActivation(up));
                return;
            }

            var gateGradient = GradientTarget.Of(gate);
            var upGradient = GradientTarget.Of(up);
            Backward((CpuDevice)gate.Device, gate, up, y.Grad!, gateGradient, upGradient);
        });
}
