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

        if (Recording.TapeFor(gate, up) is { } tape)
        {
            Record(tape, gate, up, y);
        }

        return y;
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
